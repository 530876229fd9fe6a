//go:build integration

package path

import (
	"context"
	"fmt"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The topic keeps events for a while, the read model for ever: what is verified must not end with the topic's retention,
// and a repair must not lose what only ClickHouse has.
func TestVerifyAndRepairBeyondTheTopicsRetention(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		p.history("CHAIR", awkward)
		p.agrees()
		client, err := kgo.NewClient(kgo.SeedBrokers(p.on.Kafka...))
		require.NoError(t, err)
		defer client.Close()
		admin := kadm.NewClient(client)
		conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{p.on.ClickHouse}, Auth: clickhouse.Auth{Database: p.on.Database}})
		require.NoError(t, err)
		defer conn.Close()
		postgres, err := pgx.Connect(t.Context(), p.on.PostgresURL)
		require.NoError(t, err)
		defer postgres.Close(context.WithoutCancel(t.Context()))
		for _, version := range []int{9, 17} { // about half of each SKU's events, and all
			rows, err := conn.Query(t.Context(), `SELECT kpartition, max(koffset) + 1 FROM events FINAL WHERE version <= @version GROUP BY kpartition`, clickhouse.Named("version", version))
			require.NoError(t, err)
			var forgotten kadm.Offsets
			for rows.Next() {
				var partition int32
				var next int64
				require.NoError(t, rows.Scan(&partition, &next))
				forgotten.AddOffset(p.topics.Events.Name, partition, next, -1)
			}
			require.NoError(t, rows.Err())
			deleted, err := admin.DeleteRecords(t.Context(), forgotten)
			require.NoError(t, err)
			require.NoError(t, deleted.Error())

			code, printed := p.verify()
			require.Zero(t, code, printed)
			require.Contains(t, printed, "34 events folded") // wherever they are
			require.Contains(t, printed, fmt.Sprintf("%d of the events are older than the topic's retention", 2*version))

			_, err = postgres.Exec(t.Context(), `UPDATE order_lines SET batchref = 'b-2' WHERE orderid = 'o-0' AND sku = 'CHAIR'`)
			require.NoError(t, err)
			code, printed = p.verify("--wait=1s")
			require.Equal(t, 1, code, printed)
			require.Contains(t, printed, `postgres: "CHAIR" line o-0 is 2 in batch "b-2"; the events say 2 in batch "b-1"`)
			_, err = postgres.Exec(t.Context(), `UPDATE order_lines SET batchref = 'b-1' WHERE orderid = 'o-0' AND sku = 'CHAIR'`)
			require.NoError(t, err)

			require.NoError(t, conn.Exec(t.Context(), `INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-0', 'CHAIR', 3000, 0, 'b-2', 2)`))
			require.NoError(t, conn.Exec(t.Context(), `DELETE FROM stock_g1 WHERE sku = 'CHAIR'`))
			code, printed = p.verify("--wait=1s", "--repair")
			require.Zero(t, code, printed)
			require.Contains(t, printed, `clickhouse: "CHAIR" line o-0 is 2 in batch "b-2"; the events say 2 in batch "b-1"`)
			p.selects("SELECT count() FROM events FINAL", "34")
			p.agrees()
		}
		require.NoError(t, conn.Exec(t.Context(), `DELETE FROM events WHERE sku = 'CHAIR' AND version = 4`))
		code, printed := p.verify("--wait=1s", "--repair")
		require.Equal(t, 1, code, printed)
		require.Contains(t, printed, `events: "CHAIR" version 4 is missing, and 13 later ones are there`)
		require.Contains(t, printed, "1 SKUs are not repaired")
	})
}
