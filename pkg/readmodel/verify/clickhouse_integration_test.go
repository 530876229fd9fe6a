//go:build integration

package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/schemas"
)

// A step of the audit with its default of 500 SKUs, each of which has had 40 batches, and sums of as many SKUs with names as long as
// they may be: the text of a query with all of them in it would be longer than ClickHouse reads.
func TestManyNamesAreAskedForAtOnce(t *testing.T) {
	addr := os.Getenv("LOTLINE_TEST_CLICKHOUSE")
	require.NotEmpty(t, addr, "LOTLINE_TEST_CLICKHOUSE must be the host:port of a ClickHouse server's native protocol: run `make test`")
	cfg := clickhouseclient.Config{Addrs: []string{addr}, Database: "default", User: "default"}
	opts, err := cfg.Options()
	require.NoError(t, err)
	server, err := clickhouse.Open(opts)
	require.NoError(t, err)
	opts.Auth.Database = fmt.Sprintf("verify_test_%016x", rand.Uint64())
	require.NoError(t, server.Exec(t.Context(), "CREATE DATABASE "+opts.Auth.Database))
	conn, err := clickhouse.Open(opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, errors.Join(conn.Close(), server.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+opts.Auth.Database), server.Close()))
	})
	for table, columns := range map[string]string{ // as much of the tables as is asked for
		"skus":           "sku String, version UInt64, available Int64",
		"stock":          "sku String, version UInt64, ref String, qty Int32, available Int32, eta Nullable(Date32)",
		"order_lines":    "sku String, version UInt64, orderid String, batchref String, qty Int32, eta Nullable(Date32), commandid String, event_time DateTime64(3)",
		"batches_by_ref": "sku String, ref String",
		"events": `sku String, version UInt64, type String, orderid String, batchref String, qty Int32, batch_qty Int32, batch_available Int32,
			eta Nullable(Date32), available Int64, commandid String, reason String, event_time DateTime64(3)`,
	} {
		require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE "+table+" ("+columns+") ENGINE = ReplacingMergeTree ORDER BY sku"))
	}

	keys, should := newAuditKeys(), newAuditRows()
	for i := range skusAskedMax {
		sku := fmt.Sprintf("%0*d", schemas.MaxIDBytes, i)
		keys.add(row{sku, rowSKU})
		keys.add(row{sku, linePrefix + strings.Repeat("o", schemas.MaxIDBytes)})
		for b := range 40 {
			should.add(sku, refPrefix+fmt.Sprintf("batch-%06d", i*40+b), 0, "there")
		}
	}
	require.NoError(t, conn.Exec(t.Context(), "INSERT INTO skus (sku, version, available) VALUES ('"+keys.skus[7]+"', 3, 9)"))
	store := AuditedClickHouse(conn)
	is, err := store.now(t.Context(), keys, should)
	require.NoError(t, err)
	require.Len(t, is.ofSKU, 1)
	strange, err := store.strangeSKUs(t.Context(), "", "", keys.skus[8:], 10)
	require.NoError(t, err)
	require.Equal(t, keys.skus[7:8], strange)
	_, err = store.events(t.Context(), keys.skus, []uint64{1, 2}, time.Now())
	require.NoError(t, err)
	sums, err := clickHouseSums(t.Context(), conn, scope{skus: keys.skus})
	require.NoError(t, err)
	require.Len(t, sums, 1)
	rows, err := (&judge{Options: Options{ClickHouse: conn}}).clickHouseRows(t.Context(), keys.skus)
	require.NoError(t, err)
	require.Equal(t, rowSet{row{keys.skus[7], rowSKU}: "version 3, 9 available"}, rows)
}
