// Command byhand is the alternative that people write first: a consumer that allocates with one Postgres transaction a
// command, then produces the event, and commits offsets when a poll's events are acknowledged. Partitions are worked on side
// by side, each over its own connection; statements are prepared and pipelined.
//
// Killed between a Postgres commit and the acknowledgement of its event, it finds the line when the command comes again, and
// publishes the event again from the row: nothing is lost, and events can be there twice. It decides Allocate only.
//
// The benchmark peers builds and runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/topics"
)

type flags struct {
	Kafka       kafkaclient.Config `embed:"" prefix:"kafka-"`
	PostgresURL string             `required:"" env:"LOTLINE_POSTGRES_URL" help:"A database with the allocator's tables."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Description("Allocates with one transaction a command."))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "byhand:", err)
		os.Exit(1)
	}
}

type worker struct {
	client *kgo.Client
	pool   *pgxpool.Pool
	events string
}

func run(ctx context.Context, f flags) error {
	set := topics.Declared(f.Kafka.TopicPrefix)
	client, err := kgo.NewClient(append(f.Kafka.Opts("byhand"), kgo.ConsumerGroup(set.Prefix+".byhand"), kgo.ConsumeTopics(set.Commands.Name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit(), kgo.ProducerLinger(0),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(2*time.Second))...) // as the allocator has it
	if err != nil {
		return err
	}
	defer client.Close()
	pool, err := pgxpool.New(ctx, f.PostgresURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	w := worker{client, pool, set.Events.Name}
	for {
		fetches := client.PollFetches(ctx) // all that is at hand: a bound is filled by one partition, and the others would wait
		if ctx.Err() != nil {
			return nil
		}
		var group errgroup.Group
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			group.Go(func() error {
				for _, r := range p.Records {
					if err := w.handle(ctx, r); err != nil {
						return fmt.Errorf("command %d@%d: %w", r.Partition, r.Offset, err)
					}
				}
				return nil
			})
		})
		if err := group.Wait(); err != nil {
			return err
		}
		if err := errors.Join(client.Flush(ctx), client.CommitRecords(ctx, fetches.Records()...)); err != nil {
			return err
		}
	}
}

// handle decides one command and has its event sent.
func (w *worker) handle(ctx context.Context, r *kgo.Record) error {
	envelope, c, err := cloudevents.Decode(r.Headers, r.Value, schemas.DecodeCommand)
	if err != nil {
		return err
	}
	e := schemas.Event{Type: schemas.EventAllocated, SKU: c.SKU, CommandID: envelope.ID, CommandSource: envelope.Source, Last: true, OrderID: c.OrderID, Qty: c.Qty}
	if err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error { return allocate(ctx, tx, r, &e) }); err != nil {
		return err
	}
	w.client.Produce(ctx, &kgo.Record{Topic: w.events, Key: []byte(e.SKU), Value: schemas.AppendEvent(nil, &e), Headers: cloudevents.Headers(cloudevents.Envelope{
		ID: fmt.Sprintf("%s/%d/%d/0", r.Topic, r.Partition, r.Offset), Source: "/bench/byhand", Type: e.Type.CEType(), ContentType: schemas.ContentTypeJSON, Time: time.Now(),
	})}, func(_ *kgo.Record, err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "byhand: an event is lost:", err)
			os.Exit(1)
		}
	})
	return nil
}

// allocate completes the event from the rows, which it changes unless the line is there.
func allocate(ctx context.Context, tx pgx.Tx, r *kgo.Record, e *schemas.Event) error {
	var version, at int64
	var available int64
	var ref, eta string
	var qty, left int32
	b := &pgx.Batch{}
	b.Queue("SELECT version, available FROM products WHERE sku = $1 FOR UPDATE", e.SKU).QueryRow(func(row pgx.Row) error {
		return row.Scan(&version, &available)
	})
	b.Queue(`SELECT coalesce((SELECT allocated_version FROM order_lines WHERE orderid = $1 AND sku = $2), 0)`, e.OrderID, e.SKU).QueryRow(func(row pgx.Row) error {
		return row.Scan(&at)
	})
	b.Queue(`SELECT ref, coalesce(eta::text, ''), qty, qty - allocated FROM batches WHERE sku = $1 AND open AND qty - allocated >= $2
		ORDER BY eta NULLS FIRST, created_version LIMIT 1`, e.SKU, e.Qty).QueryRow(func(row pgx.Row) error {
		return row.Scan(&ref, &eta, &qty, &left)
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return err // the benchmark sends neither unknown SKUs nor more than there is
	}
	e.BatchRef, e.BatchQty, e.ETA = ref, qty, eta
	if at > 0 { // a repeat: what came after it is not told apart
		e.Version, e.BatchAvailable, e.Available = uint64(at), left, available
		return nil
	}
	e.Version, e.BatchAvailable, e.Available = uint64(version)+1, left-e.Qty, available-int64(e.Qty)
	b = &pgx.Batch{}
	b.Queue(`INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version, command_source, command_id, command_partition, command_offset, command_time)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, e.OrderID, e.SKU, e.Qty, ref, int64(e.Version), e.CommandSource, e.CommandID, r.Partition, r.Offset, r.Timestamp)
	b.Queue("UPDATE batches SET allocated = allocated + $3 WHERE sku = $1 AND ref = $2", e.SKU, ref, e.Qty)
	b.Queue("UPDATE products SET version = $2, available = $3 WHERE sku = $1", e.SKU, int64(e.Version), e.Available)
	return tx.SendBatch(ctx, b).Close()
}
