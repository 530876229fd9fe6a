//go:build integration

package projector_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/services/projector"
)

// A repair that comes before the cause is mended, or that meets another event which is refused, takes nothing from the read model for
// good: but for that event, all is there again when it says so.
func TestARepairThatIsRefusedTakesNothingAway(t *testing.T) {
	b := install(t)
	b.publish(readmodeltest.New(17, 2000).Records, kgo.TryCommit)
	b.exec("ALTER TABLE events ADD CONSTRAINT c CHECK NOT (sku = 'SKU-03' AND version = 7)")
	defer b.start()()
	b.waitProjected()
	rows := func() map[string]uint64 {
		rows := map[string]uint64{}
		for _, table := range []string{"events", "stock", "skus", "order_lines", "batches_by_ref", "outcomes", "set_aside"} {
			for _, sku := range []string{"SKU-03", "SKU-05"} {
				rows[table+" of "+sku] = b.count(fmt.Sprintf("SELECT count() FROM %s FINAL WHERE sku = '%s'", table, sku))
			}
		}
		return rows
	}
	before := rows()
	require.EqualValues(t, 1, before["set_aside of SKU-03"])
	repair := func() error {
		_, err := projector.Reproject(t.Context(), b.config.Kafka, clickhouseclient.Config(b.config.ClickHouse), []string{"SKU-03", "SKU-05"})
		return err
	}
	require.ErrorContains(t, repair(), "1 events are refused and set aside, and all others of these 2 SKUs are there")
	require.Equal(t, before, rows())

	b.exec("ALTER TABLE events ADD CONSTRAINT d CHECK NOT (sku = 'SKU-05' AND version = 3)")
	require.ErrorContains(t, repair(), "2 events are refused")
	require.EqualValues(t, 1, rows()["set_aside of SKU-05"], "it was never refused before, and is noted now")
}
