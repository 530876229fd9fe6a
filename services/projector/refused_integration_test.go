//go:build integration

package projector_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/services/projector"
)

func (b *bench) exec(sql string) {
	b.t.Helper()
	require.NoError(b.t, b.conn.Exec(b.t.Context(), sql), sql)
}

func (b *bench) count(sql string) (n uint64) {
	b.t.Helper()
	require.NoError(b.t, b.conn.QueryRow(b.t.Context(), sql).Scan(&n), sql)
	return n
}

// ClickHouse refuses two events for good, one in events and one in a table that a view fills. All others are projected, the
// two are set aside with all that they say, and once the cause is mended the read model is whole.
func TestARefusedRowIsSetAside(t *testing.T) {
	b := install(t)
	h := readmodeltest.New(17, 2000)
	b.publish(h.Records, kgo.TryCommit)
	b.exec("ALTER TABLE events ADD CONSTRAINT c CHECK NOT (sku = 'SKU-03' AND version = 7)")
	b.exec("ALTER TABLE skus_g1 ADD CONSTRAINT c CHECK NOT (sku = 'SKU-05' AND version = 9)")
	stop := b.start()
	b.waitProjected()
	require.Equal(t, uint64(2), b.count("SELECT count() FROM set_aside FINAL"))
	require.Equal(t, uint64(1), b.count(`SELECT count() FROM set_aside FINAL WHERE sku = 'SKU-03' AND version = 7 AND reason LIKE '%Constraint%'
		AND JSONExtractString(event, 'sku') = 'SKU-03' AND JSONExtractUInt(event, 'version') = 7`))
	require.Equal(t, uint64(1), b.count("SELECT count() FROM set_aside FINAL WHERE sku = 'SKU-05' AND version = 9"))
	changes := uint64(0)
	for _, r := range h.Records {
		if r.Event.Type.ChangesState() {
			changes++
		}
	}
	require.Equal(t, changes-2, b.count("SELECT count() FROM events FINAL WHERE NOT (sku = 'SKU-05' AND version = 9)"))

	_, err := projector.Reproject(t.Context(), b.config.Kafka, clickhouseclient.Config(b.config.ClickHouse), []string{"SKU-03", "SKU-05"})
	require.ErrorContains(t, err, "Constraint", "as long as it is refused a repair says so, and does not try for ever")
	require.Equal(t, uint64(2), b.count("SELECT count() FROM set_aside FINAL"))
	b.exec("ALTER TABLE events DROP CONSTRAINT c")
	b.exec("ALTER TABLE skus_g1 DROP CONSTRAINT c")
	b.exec("INSERT INTO set_aside (sku, what, version, event_id) VALUES ('SKU-03', 'refused', 9999, 'not in the topic')")
	_, err = projector.Reproject(t.Context(), b.config.Kafka, clickhouseclient.Config(b.config.ClickHouse), []string{"SKU-03", "SKU-05"})
	require.NoError(t, err)
	require.Equal(t, uint64(1), b.count("SELECT count() FROM set_aside FINAL"))
	require.Equal(t, uint64(1), b.count("SELECT count() FROM set_aside FINAL WHERE version = 9999"), "what was not projected again is still lacking")
	b.requireReadModel(h)
	stop()
}

// The topic lacks three events of two SKUs. All others are projected, and the three are named, also by a projector that starts in
// the middle and so cannot see it.
func TestAHoleInTheTopicIsNamed(t *testing.T) {
	b := install(t)
	whole := readmodeltest.New(23, 2000)
	isLost := func(r readmodel.Record) bool {
		e := r.Event
		return e.Type.ChangesState() && (e.SKU == "SKU-04" && (e.Version == 8 || e.Version == 9) || e.SKU == "SKU-06" && e.Version == 5)
	}
	lost, h := slices.DeleteFunc(slices.Clone(whole.Records), func(r readmodel.Record) bool { return !isLost(r) }), *whole
	require.Len(t, lost, 3)
	h.Records = slices.DeleteFunc(slices.Clone(whole.Records), isLost)
	half := len(h.Records) / 2
	b.publish(h.Records[:half], kgo.TryCommit)
	stop := b.start()
	missing := func() uint64 { return b.count("SELECT count() FROM set_aside FINAL WHERE what = 'missing'") }
	require.Eventually(t, func() bool { return missing() == 3 }, 30*time.Second, 20*time.Millisecond)
	require.Equal(t, uint64(2), b.count("SELECT count() FROM set_aside FINAL WHERE sku = 'SKU-04' AND version IN (8, 9) AND reason LIKE '%has version 10'"))
	stop()
	stop = b.start()
	b.publish(h.Records[half:], kgo.TryCommit)
	b.waitProjected()
	changes := uint64(0)
	for _, r := range h.Records {
		if r.Event.Type.ChangesState() {
			changes++
		}
	}
	require.Equal(t, changes, b.count("SELECT count() FROM events FINAL"), "nothing waits for what is missing")
	require.Equal(t, uint64(3), missing())

	b.publish(lost, kgo.TryCommit) // however late
	b.waitProjected()
	b.requireReadModel(published(whole, h.Records, lost))
	stop()
	b.start() // looks for it at once; the one before would within a minute
	require.Eventually(t, func() bool { return missing() == 0 }, 20*time.Second, 20*time.Millisecond)
}

// published is a history with the places that its records have got.
func published(h *readmodeltest.History, parts ...[]readmodel.Record) *readmodeltest.History {
	placed := *h
	placed.Records = slices.Concat(parts...)
	return &placed
}

// A server that cannot merge as fast as parts come refuses inserts. The projector comes more slowly, and loses nothing.
func TestTooManyPartsSlowTheProjectorDown(t *testing.T) {
	b := install(t)
	h := readmodeltest.New(19, 2000)
	b.config.BlockEventsMax = 100
	b.exec("SYSTEM STOP MERGES events")
	b.exec("ALTER TABLE events MODIFY SETTING parts_to_throw_insert = 4")
	b.publish(h.Records, kgo.TryCommit)
	b.start()
	tried := func() uint64 {
		return b.count("SELECT toUInt64(sum(value)) FROM system.errors WHERE name = 'TOO_MANY_PARTS'")
	}
	before := tried()
	require.Eventually(t, func() bool { return tried() > before }, 20*time.Second, 10*time.Millisecond)
	require.NotEmpty(t, b.missing())
	first, since := tried(), time.Now()
	time.Sleep(3 * time.Second) // how often it asks in that time is what is tested
	require.LessOrEqual(t, tried()-first, uint64(8), "in %s", time.Since(since))
	require.NotEmpty(t, b.missing(), "nothing is passed over")
	b.exec("ALTER TABLE events RESET SETTING parts_to_throw_insert")
	b.exec("SYSTEM START MERGES events")
	b.waitProjected()
	b.requireReadModel(h)
	require.Zero(t, b.count("SELECT count() FROM set_aside FINAL"))
}
