//go:build integration

package clickhouse

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/schemas"
)

// What the real server says, of the table itself and of one that a view fills, and what is made of it.
func TestErrorsAreToldApart(t *testing.T) {
	cfg := migrated(t)
	conn := connect(t, cfg)
	w := newWriter(t, cfg)
	records := readmodeltest.New(3, 200).Records
	// A connection of its own, since merges would make what is planted here pass.
	for _, sql := range []string{"SYSTEM STOP MERGES events", "SYSTEM STOP MERGES skus_g1"} {
		require.NoError(t, conn.Exec(t.Context(), sql))
	}
	require.NoError(t, w.Apply(t.Context(), records))
	for _, planted := range []struct{ plant, undo, says, kind string }{
		{"ALTER TABLE events ADD CONSTRAINT c CHECK version < 3", "ALTER TABLE events DROP CONSTRAINT c", "469", "refused"},
		{"ALTER TABLE skus_g1 ADD CONSTRAINT c CHECK version < 3", "ALTER TABLE skus_g1 DROP CONSTRAINT c", "469", "refused"},
		{"ALTER TABLE outcomes ADD CONSTRAINT c CHECK throwIf(version = 3) = 0", "ALTER TABLE outcomes DROP CONSTRAINT c", "395", "refused"},
		{"ALTER TABLE events MODIFY SETTING parts_to_throw_insert = 1", "ALTER TABLE events RESET SETTING parts_to_throw_insert", "252", "overloaded"},
		{"ALTER TABLE skus_g1 MODIFY SETTING parts_to_throw_insert = 1", "ALTER TABLE skus_g1 RESET SETTING parts_to_throw_insert", "252", "overloaded"},
		{"RENAME TABLE outcomes TO away", "RENAME TABLE away TO outcomes", "60", "outage"},
	} {
		require.NoError(t, conn.Exec(t.Context(), planted.plant))
		err := w.Apply(t.Context(), records)
		require.ErrorContains(t, err, "code: "+planted.says, planted.plant)
		var refused *readmodel.RefusedError
		var overloaded *readmodel.OverloadedError
		switch planted.kind {
		case "refused":
			require.ErrorAs(t, err, &refused, planted.plant)
		case "overloaded":
			require.ErrorAs(t, err, &overloaded, planted.plant)
		default:
			require.NotErrorAs(t, err, &refused)
			require.NotErrorAs(t, err, &overloaded)
		}
		require.NoError(t, conn.Exec(t.Context(), planted.undo))
		require.NoError(t, w.Apply(t.Context(), records), planted.undo)
	}
}

func TestMissingAreTheVersionsThatTheLogDoesNotHave(t *testing.T) {
	w := newWriter(t, migrated(t))
	records := readmodeltest.New(3, 300).Records
	require.NoError(t, w.Apply(t.Context(), records))
	var first *readmodel.Record
	for i := range records {
		if records[i].Event.Type.ChangesState() {
			first = &records[i]
			break
		}
	}
	there := readmodel.Aside{What: readmodel.AsideMissing, SKU: first.Event.SKU, Version: first.Event.Version, Time: first.Time}
	never, ghost := there, there
	never.Version, ghost.SKU = 100_000, "GHOST"
	of := []readmodel.Aside{there, never, ghost}
	for _, since := range []time.Time{{}, first.Time} {
		missing, err := w.Missing(t.Context(), of, since)
		require.NoError(t, err)
		require.Equal(t, []readmodel.Aside{never, ghost}, missing)
	}
	missing, err := w.Missing(t.Context(), of, first.Time.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, of, missing, "only events since then are looked at")
}

// As many names as are ever asked for, as long as they may be: in the text of a query they would be more than ClickHouse reads.
func TestManyNamesAreAskedForAtOnce(t *testing.T) {
	cfg := migrated(t)
	w := newWriter(t, cfg)
	records := readmodeltest.New(3, 300).Records
	require.NoError(t, w.Apply(t.Context(), records))
	sku := records[0].Event.SKU
	of := []readmodel.Aside{{SKU: sku, Version: 1}}
	names := []string{sku}
	for i := range 10_000 {
		name := fmt.Sprintf("%0*d", schemas.MaxIDBytes, i)
		names, of = append(names, name), append(of, readmodel.Aside{SKU: name, Version: uint64(i + 1)})
	}
	missing, err := w.Missing(t.Context(), of, time.Time{})
	require.NoError(t, err)
	require.Equal(t, of[1:], missing)
	found := 0
	require.NoError(t, newGenerations(t, cfg).Read(t.Context(), 1, names, func(rows *readmodel.State) error {
		found += len(rows.SKUs)
		return nil
	}))
	require.Equal(t, 1, found)
	require.NoError(t, w.Forget(t.Context(), names, map[int32]int64{0: 0}))
	require.NotContains(t, lines(t, connect(t, cfg), "SELECT sku FROM skus"), sku)
}
