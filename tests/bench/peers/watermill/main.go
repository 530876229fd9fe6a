// Command watermill is the alternative with Watermill: CQRS command handlers in a consumer group, an outbox in Postgres that
// is written in the command's transaction, and forwarders that poll it and publish to Kafka. Events of a SKU go by one of
// several outboxes, each with a forwarder of its own, so that they keep their order. It decides Allocate only.
//
// A forwarder that dies between publishing and the mark that it did publishes again: nothing is lost, and events can be there
// twice.
//
// It is a module of its own, so that its dependencies are nobody else's. The benchmark peers builds and runs it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type flags struct {
	Brokers     []string      `name:"kafka-brokers" required:"" help:"Kafka brokers."`
	Prefix      string        `name:"kafka-topic-prefix" required:"" help:"Of the topics."`
	PostgresURL string        `required:"" env:"LOTLINE_POSTGRES_URL" help:"A database with the allocator's tables."`
	Outboxes    int           `default:"4" help:"Outboxes, each with a forwarder."`
	Poll        time.Duration `default:"5ms" help:"How often a forwarder looks for more when it found nothing."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Description("Allocates with Watermill."))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "watermill:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	log := watermill.NewStdLoggerWithOut(os.Stderr, false, false)
	config, err := pgxpool.ParseConfig(f.PostgresURL)
	if err != nil {
		return err
	}
	config.MaxConns = int32(4 + 4*f.Outboxes)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers:   f.Brokers,
		Marshaler: kafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) { return m.Metadata.Get("sku"), nil }),
	}, log)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 10 * time.Second}, log)
	if err != nil {
		return err
	}
	h := &handler{pool: pool, log: log, events: f.Prefix + ".events", outboxes: f.Outboxes}
	for i := range f.Outboxes {
		outbox, err := sql.NewSubscriber(sql.BeginnerFromPgx(pool), sql.SubscriberConfig{
			SchemaAdapter: sql.DefaultPostgreSQLSchema{}, OffsetsAdapter: sql.DefaultPostgreSQLOffsetsAdapter{}, InitializeSchema: true, PollInterval: f.Poll,
		}, log)
		if err != nil {
			return err
		}
		if err := outbox.SubscribeInitialize(outboxName(i)); err != nil {
			return err
		}
		forwarding, err := message.NewRouter(message.RouterConfig{}, log)
		if err != nil {
			return err
		}
		forward, err := forwarder.NewForwarder(outbox, publisher, log, forwarder.Config{ForwarderTopic: outboxName(i), Router: forwarding})
		if err != nil {
			return err
		}
		go func() {
			if err := forward.Run(ctx); err != nil && ctx.Err() == nil {
				log.Error("a forwarder has ended", err, nil)
				os.Exit(1)
			}
		}()
	}
	if err := h.subscribe(router, f); err != nil {
		return err
	}
	return router.Run(ctx)
}

func outboxName(i int) string { return fmt.Sprintf("outbox_%d", i) }

// handler handles commands.
type handler struct {
	pool     *pgxpool.Pool
	log      watermill.LoggerAdapter
	events   string
	outboxes int
}

// Allocate is the command.
type Allocate struct {
	OrderID string `json:"orderid"`
	SKU     string `json:"sku"`
	Qty     int32  `json:"qty"`
}

// event is what Allocated says.
type event struct {
	SKU            string  `json:"sku"`
	Version        int64   `json:"version"`
	CommandID      string  `json:"commandid"`
	CommandSource  string  `json:"commandsource"`
	Seq            int     `json:"seq"`
	Last           bool    `json:"last"`
	OrderID        string  `json:"orderid"`
	Qty            int32   `json:"qty"`
	BatchRef       string  `json:"batchref"`
	BatchQty       int32   `json:"batch_qty"`
	BatchAvailable int32   `json:"batch_available"`
	ETA            *string `json:"eta"`
	Available      int64   `json:"available"`
}

// byType finds a message's command by its CloudEvents type.
type byType struct{ cqrs.JSONMarshaler }

func (byType) Name(any) string { return "lotline.command.v1.Allocate" }

func (byType) NameFromMessage(m *message.Message) string { return m.Metadata.Get("ce_type") }

func (h *handler) subscribe(router *message.Router, f flags) error {
	processor, err := cqrs.NewCommandProcessorWithConfig(router, cqrs.CommandProcessorConfig{
		GenerateSubscribeTopic: func(cqrs.CommandProcessorGenerateSubscribeTopicParams) (string, error) {
			return f.Prefix + ".commands", nil
		},
		SubscriberConstructor: func(cqrs.CommandProcessorSubscriberConstructorParams) (message.Subscriber, error) {
			settings := kafka.DefaultSaramaSubscriberConfig()
			settings.Consumer.Offsets.Initial = sarama.OffsetOldest
			settings.Consumer.IsolationLevel = sarama.ReadCommitted
			settings.Consumer.Group.Session.Timeout, settings.Consumer.Group.Heartbeat.Interval = 6*time.Second, 2*time.Second // as the allocator has it
			return kafka.NewSubscriber(kafka.SubscriberConfig{
				Brokers: f.Brokers, Unmarshaler: kafka.DefaultMarshaler{}, ConsumerGroup: f.Prefix + ".watermill", OverwriteSaramaConfig: settings,
				NackResendSleep: 10 * time.Millisecond,
			}, h.log)
		},
		Marshaler: byType{}, Logger: h.log,
	})
	if err != nil {
		return err
	}
	return processor.AddHandlers(cqrs.NewCommandHandler("allocate", h.allocate))
}

// allocate decides a command, and puts its event into an outbox, in one transaction. A repeat changes nothing: its event is in
// an outbox already.
func (h *handler) allocate(ctx context.Context, c *Allocate) error {
	metadata := cqrs.OriginalMessageFromCtx(ctx).Metadata
	return pgx.BeginFunc(ctx, h.pool, func(tx pgx.Tx) error {
		e := event{SKU: c.SKU, CommandID: metadata.Get("ce_id"), CommandSource: metadata.Get("ce_source"), Last: true, OrderID: c.OrderID, Qty: c.Qty}
		if repeat, err := change(ctx, tx, &e); err != nil || repeat {
			return err
		}
		payload, err := json.Marshal(e)
		if err != nil {
			return err
		}
		m := message.NewMessage(watermill.NewUUID(), payload)
		m.SetContext(ctx)
		m.Metadata = message.Metadata{
			"sku": e.SKU, "ce_specversion": "1.0", "ce_id": m.UUID, "ce_source": "/bench/watermill", "ce_type": "lotline.event.v1.Allocated",
		}
		rows, err := sql.NewPublisher(sql.TxFromPgx(tx), sql.PublisherConfig{SchemaAdapter: sql.DefaultPostgreSQLSchema{}}, h.log)
		if err != nil {
			return err
		}
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(e.SKU)) // it cannot fail
		outbox := outboxName(int(hash.Sum32() % uint32(h.outboxes)))
		return forwarder.NewPublisher(rows, forwarder.PublisherConfig{ForwarderTopic: outbox}).Publish(h.events, m)
	})
}

// change reads and writes the rows, pipelined, and completes the event.
func change(ctx context.Context, tx pgx.Tx, e *event) (repeat bool, err error) {
	var version int64
	b := &pgx.Batch{}
	b.Queue("SELECT version, available FROM products WHERE sku = $1 FOR UPDATE", e.SKU).QueryRow(func(row pgx.Row) error {
		return row.Scan(&version, &e.Available)
	})
	b.Queue(`SELECT EXISTS (SELECT FROM order_lines WHERE orderid = $1 AND sku = $2)`, e.OrderID, e.SKU).QueryRow(func(row pgx.Row) error {
		return row.Scan(&repeat)
	})
	b.Queue(`SELECT ref, eta::text, qty, qty - allocated FROM batches WHERE sku = $1 AND open AND qty - allocated >= $2
		ORDER BY eta NULLS FIRST, created_version LIMIT 1`, e.SKU, e.Qty).QueryRow(func(row pgx.Row) error {
		return row.Scan(&e.BatchRef, &e.ETA, &e.BatchQty, &e.BatchAvailable)
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil || repeat {
		if errors.Is(err, pgx.ErrNoRows) {
			return false, fmt.Errorf("SKU %s is unknown or out of stock, which the benchmark does not send: %w", e.SKU, err)
		}
		return repeat, err
	}
	e.Version, e.BatchAvailable, e.Available = version+1, e.BatchAvailable-e.Qty, e.Available-int64(e.Qty)
	b = &pgx.Batch{}
	b.Queue(`INSERT INTO order_lines (orderid, sku, qty, batchref, allocated_version, command_source, command_id, command_partition, command_offset, command_time)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, now())`, e.OrderID, e.SKU, e.Qty, e.BatchRef, e.Version, e.CommandSource, e.CommandID)
	b.Queue("UPDATE batches SET allocated = allocated + $3 WHERE sku = $1 AND ref = $2", e.SKU, e.BatchRef, e.Qty)
	b.Queue("UPDATE products SET version = $2, available = $3 WHERE sku = $1", e.SKU, e.Version, e.Available)
	return false, tx.SendBatch(ctx, b).Close()
}
