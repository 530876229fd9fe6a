//go:build integration

package cluster

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/cli"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

// pipeline is a running installation whose read model is on the cluster: the projector writes by the second host, the gateway
// asks the first.
type pipeline struct {
	*database
	on      stack.Servers
	gateway string
	client  *kgo.Client
}

func startPipeline(t *testing.T) *pipeline {
	t.Helper()
	p := new(pipeline)
	isolation.OnKfake(t, func(_ *testing.T, on stack.Servers) { p.on = on })
	p.on.ClickHouse = hosts[0].Addr
	p.database = newDatabaseOf(t, p.on.Database)
	config, err := stack.Configure(p.on)
	require.NoError(t, err)
	config.Projector.ClickHouse.Addrs = []string{hosts[1].Addr}
	running, err := stack.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })
	p.gateway = "http://" + config.Gateway.HTTPAddr
	p.client, err = kgo.NewClient(kgo.SeedBrokers(p.on.Kafka...), kgo.DefaultProduceTopic(topics.Declared(p.on.TopicPrefix).Commands.Name))
	require.NoError(t, err)
	t.Cleanup(p.client.Close)
	return p
}

// commands sends commands of SKUs, each with as many order lines, and waits for the outcome of the last of each.
func (p *pipeline) commands(name string, lines int, skus ...string) {
	p.Helper()
	var records []*kgo.Record
	add := func(id, kind, sku, format string, args ...any) {
		records = append(records, &kgo.Record{Key: []byte(sku), Value: fmt.Appendf(nil, format, args...), Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte(id)},
			{Key: "ce_source", Value: []byte("/test")},
			{Key: "ce_type", Value: []byte("lotline.command.v1." + kind)},
		}})
	}
	for _, sku := range skus {
		add(name+"-"+sku+"-batch", "CreateBatch", sku, `{"ref":"b-%s","sku":%q,"qty":1000,"eta":null}`, name, sku)
		for i := range lines {
			add(fmt.Sprintf("%s-%s-%d", name, sku, i), "Allocate", sku, `{"orderid":"o-%s-%d","sku":%q,"qty":1}`, name, i, sku)
		}
		add(name+"-"+sku+"-last", "Deallocate", sku, `{"orderid":"o-%s-0","sku":%q}`, name, sku)
	}
	require.NoError(p, p.client.ProduceSync(p.Context(), records...).FirstErr())
	for _, sku := range skus {
		require.Eventually(p, func() bool {
			response, err := http.Get(p.gateway + "/commands/" + name + "-" + sku + "-last")
			if err != nil {
				return false
			}
			defer response.Body.Close()
			return response.StatusCode == http.StatusOK
		}, 30*time.Second, 50*time.Millisecond, sku)
	}
}

// lotline runs the operator's command, connected with a host of ClickHouse.
func (p *pipeline) lotline(host int, user string, args ...string) (code int, printed string) {
	p.Helper()
	postgres, err := stack.Login(p.Context(), p.on.PostgresURL, p.on.Database+user, "lotline"+user)
	require.NoError(p, err)
	args = slices.Concat(args[:1], []string{
		"--kafka-brokers=" + strings.Join(p.on.Kafka, ","), "--kafka-topic-prefix=" + p.on.TopicPrefix, "--postgres-url=" + postgres,
		"--clickhouse-addrs=" + hosts[host].Addr, "--clickhouse-database=" + p.on.Database,
	}, args[1:])
	var out bytes.Buffer
	code = cli.Main(p.Context(), args, strings.NewReader(""), &out, &out)
	return code, out.String()
}

// rebuild expects `lotline rebuild` to end well and to say something.
func (p *pipeline) rebuild(host int, want string, flags ...string) string {
	p.Helper()
	code, printed := p.lotline(host, "_migrate", append([]string{"rebuild"}, flags...)...)
	require.Zero(p, code, printed)
	require.Contains(p, printed, want)
	return printed
}

func (p *pipeline) agrees() {
	p.Helper()
	for i := range hosts {
		code, printed := p.lotline(i, "_bi", "verify")
		require.Zero(p, code, printed)
		require.Contains(p, printed, "Postgres = fold of the events = ClickHouse")
	}
}

func TestAPipelinesReadModelIsRebuiltAndRepaired(t *testing.T) {
	p := startPipeline(t)
	skus := []string{"CHAIR", "LAMP", "SOFA", "TABLE"}
	p.commands("first", 40, skus...)
	p.agrees()
	// What nobody will write again: order lines that were never there, on either shard, stock, and a line that is missing.
	drift := func(generation int) {
		t.Helper()
		p.run(0, fmt.Sprintf("INSERT INTO order_lines_g%d (orderid, sku, version, is_deleted, batchref, qty) SETTINGS distributed_foreground_insert = 1 SELECT 'o-ghost-' || toString(number), 'CHAIR', 3, 0, 'b-first', 1 FROM numbers(8)", generation),
			fmt.Sprintf("INSERT INTO stock_g%d (sku, ref, version, is_deleted, qty, available) SETTINGS distributed_foreground_insert = 1 VALUES ('LAMP', 'b-first', 1000, 0, 6, 5)", generation))
		p.everywhere(fmt.Sprintf("DELETE FROM order_lines_g%d_local WHERE orderid = 'o-first-7' AND sku = 'CHAIR'", generation))
	}
	ghosts := func(n int) {
		t.Helper()
		for i := range hosts {
			require.Equal(t, []string{fmt.Sprint(n)}, p.lines(p.connect(i), "SELECT toString(count()) FROM order_lines FINAL WHERE startsWith(orderid, 'o-ghost')"))
		}
	}
	drift(1)
	ghosts(8)
	printed := p.rebuild(1, "Switched: readers are answered from generation 2.", "--from=state")
	require.Contains(t, printed, `live 1: "CHAIR" line o-ghost-3 is 1 in batch "b-first", in stock, since version 3; the write side has none`)
	require.Contains(t, printed, `live 1: "CHAIR" line o-first-7 is missing`)
	require.Contains(t, printed, `live 1: "LAMP" batch b-first is 5 of 6 available`)
	require.NotContains(t, printed, "\nnew ", "nothing of the new one differs")
	ghosts(0)
	p.agrees()
	p.rebuild(0, "readers are answered from generation 1", "--rollback")
	ghosts(8)
	p.commands("second", 10, skus...) // reaches both
	p.rebuild(1, "readers are answered from generation 2", "--rollback")
	ghosts(0)

	// A switch that died after the first host. What was meant is finished by the same command.
	p.switched(0, 1)
	code, printed := p.lotline(1, "_migrate", "rebuild", "--drop")
	require.Equal(t, 2, code, printed)
	require.Contains(t, printed, "a switch to it was broken off")
	p.rebuild(1, "readers are answered from generation 1", "--rollback")
	p.requireLive(1)
	p.rebuild(1, "readers are answered from generation 2", "--rollback")
	p.rebuild(0, "generation 1 is gone", "--drop")
	p.agrees()

	drift(2)
	p.rebuild(1, "Switched: readers are answered from generation 3.", "--from=events")
	p.rebuild(0, "generation 2 is gone", "--drop")
	ghosts(0)
	p.agrees()

	drift(3)
	code, printed = p.lotline(0, "_bi", "verify", "--wait=1s")
	require.Equal(t, 1, code, printed)
	code, printed = p.lotline(0, "_bi", "verify", "--wait=1s", "--repair")
	require.Zero(t, code, printed)
	ghosts(0)
	p.agrees()
}
