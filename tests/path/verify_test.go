//go:build integration

package path

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/cli"
	"github.com/lotline/lotline/tests/stack"
)

// awkward is a SKU whose text would confuse a checksum that only strung fields together, or counted characters.
const awkward = `Lämp'3:\"☃`

// verify runs `lotline verify` on the pipeline, in Postgres as a user who may read what people may.
func (p *pipeline) verify(flags ...string) (code int, printed string) {
	p.Helper()
	reader, err := stack.Login(p.Context(), p.on.PostgresURL, p.on.Database+"_bi", "lotline_bi")
	require.NoError(p, err)
	args := append([]string{
		"verify", "--kafka-brokers=" + strings.Join(p.on.Kafka, ","), "--kafka-topic-prefix=" + p.on.TopicPrefix,
		"--postgres-url=" + reader,
	}, append(p.readModelArgs("_bi"), flags...)...)
	var out bytes.Buffer
	code = cli.Main(p.Context(), args, strings.NewReader(""), &out, &out)
	return code, out.String()
}

func (p *pipeline) agrees() {
	p.Helper()
	code, printed := p.verify()
	require.Zero(p, code, printed)
	if p.on.ReadModel != "" {
		require.Contains(p, printed, "Postgres = fold of the events\n")
		require.Contains(p, printed, p.on.ReadModel+" = Postgres\n")
		return
	}
	require.Contains(p, printed, "Postgres = fold of the events = ClickHouse")
}

// history gives SKUs batches and lines, some of them moved and given back: 13 commands and 17 versions each.
func (p *pipeline) history(skus ...string) {
	p.Helper()
	var records []*kgo.Record
	add := func(ceType, sku, format string, args ...any) {
		records = append(records, record(fmt.Sprintf("c-%d", len(records)), ceType, sku, fmt.Sprintf(format, args...)))
	}
	for _, sku := range skus {
		name := fmt.Sprintf("%q", sku)
		add(createBatch, sku, `{"ref":"b-1","sku":%s,"qty":10,"eta":null}`, name)
		add(createBatch, sku, `{"ref":"b-2","sku":%s,"qty":100,"eta":"2031-01-02"}`, name)
		for i := range 8 {
			add(allocate, sku, `{"orderid":"o-%d","sku":%s,"qty":2}`, i, name)
		}
		add(changeQty, sku, `{"ref":"b-1","sku":%s,"qty":6}`, name)
		add(deallocate, sku, `{"orderid":"o-7","sku":%s}`, name)
		add(allocate, sku, `{"orderid":"o-8","sku":%s,"qty":1000}`, name)
	}
	p.produce(records)
	// All events of the last command of each SKU have an answer once all before it have.
	for n := range skus {
		p.answers(fmt.Sprintf("/commands/c-%d", 13*n+12), `"outcome":"OutOfStock"`)
	}
}

func TestVerifyNamesEachKindOfDrift(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		p.history("CHAIR", awkward)
		p.agrees()
		p.Run("postgres", p.driftOfPostgres)
		p.Run("clickhouse", p.driftOfClickHouse)
		p.agrees()
		p.Run("events", p.driftOfEvents)
	})
}

func (p *pipeline) driftOfPostgres(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), p.on.PostgresURL)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	const lineInsert = `INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version, command_source, command_id, command_partition, command_offset, command_time) VALUES `
	for _, drift := range []struct{ plant, undo, want string }{
		{
			`UPDATE products SET available = available + 1 WHERE sku = 'CHAIR'`, `UPDATE products SET available = available - 1 WHERE sku = 'CHAIR'`,
			`postgres: "CHAIR" sku is version 17, 93 available; the events say version 17, 92 available`,
		},
		{
			`UPDATE batches SET allocated = allocated - 1 WHERE ref = 'b-2' AND sku = 'CHAIR'`, `UPDATE batches SET allocated = allocated + 1 WHERE ref = 'b-2' AND sku = 'CHAIR'`,
			`postgres: "CHAIR" batch b-2 is 93 of 100 available, 2031-01-02; the events say 92 of 100 available, 2031-01-02`,
		},
		{
			`UPDATE order_lines SET batchref = NULL WHERE orderid = 'o-0' AND sku = 'CHAIR'`, `UPDATE order_lines SET batchref = 'b-1' WHERE orderid = 'o-0' AND sku = 'CHAIR'`,
			`postgres: "CHAIR" line o-0 is missing; the events say 2 in batch "b-1"`,
		},
		{
			`UPDATE order_lines SET batchref = 'b-2' WHERE orderid = 'o-0' AND sku = 'CHAIR'`, `UPDATE order_lines SET batchref = 'b-1' WHERE orderid = 'o-0' AND sku = 'CHAIR'`,
			`postgres: "CHAIR" line o-0 is 2 in batch "b-2"; the events say 2 in batch "b-1"`,
		},
		{
			lineInsert + `('o-ghost', 'CHAIR', 1, 'b-1', 99, '', 'x', 0, 0, now())`, `DELETE FROM order_lines WHERE orderid = 'o-ghost'`,
			`postgres: "CHAIR" line o-ghost is 1 in batch "b-1", and no event says so`,
		},
		{
			lineInsert + `('o-ghost', 'GHOST', 1, 'b-1', 99, '', 'x', 0, 0, now())`, `DELETE FROM order_lines WHERE orderid = 'o-ghost'`,
			`postgres: "GHOST" line o-ghost is 1 in batch "b-1", and no event says so`,
		},
		{
			`UPDATE batches SET ref = 'b-x' WHERE sku = 'CHAIR' AND ref = 'b-1'`, `UPDATE batches SET ref = 'b-1' WHERE ref = 'b-x'`,
			`postgres: "CHAIR" batch b-1 is missing; the events say 0 of 6 available, in stock`,
		},
		{
			`INSERT INTO products VALUES ('GHOST', 1, 5)`, `DELETE FROM products WHERE sku = 'GHOST'`,
			`WRONG   postgres: "GHOST" sku is version 1, 5 available, and no event says so`,
		},
		{
			`UPDATE products SET version = version + 1 WHERE sku = 'CHAIR'`, `UPDATE products SET version = version - 1 WHERE sku = 'CHAIR'`,
			`postgres: "CHAIR" sku is version 18, 92 available; the events say version 17, 92 available`,
		},
		{
			`UPDATE products SET version = version - 1 WHERE sku = 'CHAIR'`, `UPDATE products SET version = version + 1 WHERE sku = 'CHAIR'`,
			`BEHIND  postgres: "CHAIR" is at version 16, and version 17 is published: was it restored from a backup?`,
		},
	} {
		_, err := conn.Exec(t.Context(), drift.plant)
		require.NoError(t, err, drift.plant)
		code, printed := p.verify("--wait=1s")
		require.Equal(t, 1, code, "%s\n%s", drift.plant, printed)
		require.Contains(t, printed, drift.want, drift.plant)
		require.NotContains(t, printed, "clickhouse: ", drift.plant)
		_, err = conn.Exec(t.Context(), drift.undo)
		require.NoError(t, err, drift.undo)
	}
}

func (p *pipeline) driftOfClickHouse(t *testing.T) {
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{p.on.ClickHouse}, Auth: clickhouse.Auth{Database: p.on.Database}})
	require.NoError(t, err)
	defer conn.Close()
	plant := func(sql string) {
		t.Helper()
		require.NoError(t, conn.Exec(t.Context(), sql), sql)
	}
	repeated := func(other string) string {
		return `INSERT INTO order_lines_g1 SELECT * REPLACE (` + other + `) FROM order_lines_g1 FINAL WHERE orderid = 'o-0' AND sku = 'CHAIR'`
	}
	for _, drift := range []struct{ plant, want string }{
		{
			`DELETE FROM order_lines_g1 WHERE orderid = 'o-0' AND sku = 'CHAIR'`,
			`clickhouse: "CHAIR" line o-0 is missing; the events say 2 in batch "b-1"`,
		},
		{
			`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-ghost', 'CHAIR', 3, 0, 'b-1', 1)`,
			`clickhouse: "CHAIR" line o-ghost is 1 in batch "b-1", and no event says so`,
		},
		{
			`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-0', 'CHAIR', 3000, 0, 'b-2', 2)`,
			`clickhouse: "CHAIR" line o-0 is 2 in batch "b-2"; the events say 2 in batch "b-1"`,
		},
		{
			`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-0', 'CHAIR', 3000, 0, 'b-1', 2)`,
			`clickhouse: "CHAIR" change of line o-0 is version 3000, in stock, by command "" at 1970-01-01T00:00:00.000Z; the events say version 3, in stock`,
		},
		{
			repeated(`toDate32('2031-01-03') AS eta`),
			`clickhouse: "CHAIR" change of line o-0 is version 3, 2031-01-03, by command "c-2" at `,
		},
		{
			repeated(`'c-x' AS commandid`),
			`clickhouse: "CHAIR" change of line o-0 is version 3, in stock, by command "c-x" at `,
		},
		{
			repeated(`event_time + INTERVAL 1 MILLISECOND AS event_time`),
			`; the events say version 3, in stock, by command "c-2" at `,
		},
		{
			`INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available) VALUES ('CHAIR', 'b-1', 17, 0, 6, 5)`,
			`clickhouse: "CHAIR" batch b-1 is 5 of 6 available, in stock; the events say 0 of 6 available, in stock`,
		},
		{
			`INSERT INTO stock_g1 (sku, ref, version, is_deleted, qty, available) VALUES ('GHOST', 'b-1', 1, 0, 6, 5)`,
			`clickhouse: "GHOST" batch b-1 is 5 of 6 available, in stock, and no event says so`,
		},
		{
			`DELETE FROM skus_g1 WHERE sku = 'CHAIR'`,
			`clickhouse: "CHAIR" sku is missing; the events say version 17, 92 available`,
		},
		{
			`DELETE FROM batches_by_ref_g1 WHERE sku = 'CHAIR' AND ref = 'b-2'`,
			`clickhouse: "CHAIR" ref b-2 is missing; the events say there`,
		},
		{
			`DELETE FROM events WHERE sku = 'CHAIR' AND version = 4`,
			`clickhouse: "CHAIR" event 4 is missing; the events say Allocated order "o-1", 2 of batch "b-1", 106 available`,
		},
		{
			`INSERT INTO events (sku, version, type, event_time, orderid, qty, batchref, batch_qty, batch_available, available, koffset)
			SELECT sku, version, type, event_time + INTERVAL 3 HOUR, orderid, qty, batchref, batch_qty, batch_available, available, koffset FROM events WHERE sku = 'CHAIR' AND version = 4`,
			`clickhouse: "CHAIR" event 4 is Allocated order "o-1", 2 of batch "b-1", 106 available, 2 times; the events say`,
		},
		{
			`DELETE FROM outcomes WHERE commandid = 'c-3'`,
			`is missing; the events say Allocated at version 4, source "/test", order "o-1", batch "b-1", "", ""`,
		},
		{
			`INSERT INTO outcomes SELECT * REPLACE ('CommandRejected' AS type) FROM outcomes WHERE commandid = 'c-3'`,
			`is CommandRejected at version 4, source "/test", order "o-1", batch "b-1", "", ""; the events say Allocated at version 4`,
		},
		{
			`INSERT INTO outcomes SELECT * REPLACE ('ghost' AS commandid) FROM outcomes WHERE sku = 'CHAIR' AND version = 4`,
			`clickhouse: "CHAIR" outcome ghost`,
		},
	} {
		plant(drift.plant)
		code, printed := p.verify("--wait=1s")
		require.Equal(t, 1, code, "%s\n%s", drift.plant, printed)
		require.Contains(t, printed, drift.want, drift.plant)
		require.NotContains(t, printed, "postgres: ", drift.plant)
		code, printed = p.verify("--wait=1s", "--repair")
		require.Zero(t, code, "after the repair: %s\n%s", drift.plant, printed)
	}
	// Rows that are there twice are no drift: that is what FINAL is for.
	plant(`INSERT INTO events SELECT * FROM events`)
	p.agrees()
}

// driftOfEvents cannot be undone, and comes last.
func (p *pipeline) driftOfEvents(t *testing.T) {
	var last *kgo.Record
	for _, r := range p.consume(p.topics.Events.Name, 34) {
		if string(r.Key) == "CHAIR" && header(r, "ce_type") == "lotline.event.v1.OutOfStock" {
			last = r
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.on.Kafka...), kgo.DefaultProduceTopic(p.topics.Events.Name))
	require.NoError(t, err)
	defer client.Close()
	again := &kgo.Record{Key: last.Key, Value: last.Value, Headers: last.Headers}
	later := &kgo.Record{Key: last.Key, Value: bytes.Replace(last.Value, []byte(`"version":17`), []byte(`"version":20`), 1), Headers: last.Headers}
	require.NotEqual(t, last.Value, later.Value)
	require.NoError(t, client.ProduceSync(t.Context(), again, later).FirstErr())
	code, printed := p.verify("--wait=1s")
	require.Equal(t, 1, code, printed)
	require.Contains(t, printed, `events: "CHAIR" version 17 is there again, at `+p.topics.Events.Name)
	require.Contains(t, printed, `events: "CHAIR" version 18 is missing, and 1 later ones are there`)

	p.selects("SELECT count() FROM events FINAL WHERE sku = 'CHAIR'", "18") // 17, and the one past the hole
	// ClickHouse may have the only copy of what the topic lost: it is not projected again.
	code, printed = p.verify("--wait=1s", "--repair")
	require.Equal(t, 1, code, printed)
	require.Contains(t, printed, "1 SKUs are not repaired: their events in the topic are wrong too")
	p.selects("SELECT count() FROM events FINAL WHERE sku = 'CHAIR'", "18")
}
