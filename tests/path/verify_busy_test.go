//go:build integration

package path

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// busy sends commands for 20 SKUs until stop is called, so that each changes many times while it is looked at.
func (p *pipeline) busy() (stop func() (sent int)) {
	p.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.on.Kafka...), kgo.DefaultProduceTopic(p.topics.Commands.Name))
	require.NoError(p, err)
	ctx, cancel := context.WithCancel(p.Context())
	done := make(chan int)
	go func() {
		defer client.Close()
		sent := 0
		for ; ctx.Err() == nil; sent++ {
			sku := fmt.Sprintf("BUSY-%d", sent%20)
			r := record(fmt.Sprintf("busy-%d", sent), allocate, sku, fmt.Sprintf(`{"orderid":"o-%d","sku":%q,"qty":1}`, sent, sku))
			switch {
			case sent%40 >= 20 && sent%3 == 0 && sent > 40: // gives back what the SKU's command before this one allocated
				r = record(fmt.Sprintf("busy-%d", sent), deallocate, sku, fmt.Sprintf(`{"orderid":"o-%d","sku":%q}`, sent-20, sku))
			case sent < 20:
				r = record(fmt.Sprintf("busy-%d", sent), createBatch, sku, fmt.Sprintf(`{"ref":"b","sku":%q,"qty":1000000,"eta":null}`, sku))
			}
			client.Produce(ctx, r, nil)
			time.Sleep(time.Millisecond)
		}
		done <- sent
	}()
	p.answers("/commands/busy-120", `"outcome":"Allocated"`)
	return func() int {
		cancel()
		return <-done
	}
}

// A repair deletes rows while the projector writes others of the same SKUs: none may be missing afterwards.
func TestVerifyRepairsWhileCommandsComeIn(t *testing.T) {
	onKfake(t, func(p *pipeline) {
		stop := p.busy()
		conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{p.on.ClickHouse}, Auth: clickhouse.Auth{Database: p.on.Database}})
		require.NoError(t, err)
		defer conn.Close()
		for i := range 3 {
			require.NoError(t, conn.Exec(t.Context(), fmt.Sprintf(`INSERT INTO order_lines_g1 (orderid, sku, version, is_deleted, batchref, qty) VALUES ('o-ghost', 'BUSY-%d', 3, 0, 'b', 1)`, i)))
			code, printed := p.verify("--repair")
			require.Zero(t, code, printed)
			require.Contains(t, printed, fmt.Sprintf(`clickhouse: "BUSY-%d" line o-ghost is 1 in batch "b", and no event says so`, i))
			require.Contains(t, printed, "projected 1 SKUs again")
		}
		stop()
		p.agrees()
	})
}

func TestVerifyAgreesWhileCommandsComeIn(t *testing.T) {
	onEachKafka(t, func(p *pipeline) {
		p.history("CHAIR", awkward)
		stop := p.busy()
		looked := 0
		for range 3 {
			code, printed := p.verify()
			require.Zero(t, code, printed)
			if !strings.Contains(printed, " 0 of them looked into") {
				looked++
			}
		}
		require.Greater(t, stop(), 100)
		require.Positive(t, looked, "the stores always agreed at first sight: this tested nothing")
	})
}
