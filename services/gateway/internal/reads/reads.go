// Package reads answers questions from the read model in ClickHouse: where an
// order's lines are, what became of a command, whose SKU a batch is.
//
// The gateway's HTTP API calls it and the service's root wires it. It imports
// pkg and the ClickHouse client; the tables are the projector's, and it names only those
// that are meant for readers.
package reads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/lotline/lotline/pkg/clickhouseclient"
)

const (
	// keysMax: from about a hundred keys on, more in one query gain little.
	keysMax = 500
	// OrderLinesMax is the largest number of an order's lines that is answered.
	OrderLinesMax = 10_000
	// RefSKUsMax is the largest number of SKUs that are named for one batch ref.
	RefSKUsMax = 100

	resultRowsMax = 1_000_000 // of one query, for all its keys
	connections   = 8
	dialTimeout   = time.Second
	logInterval   = 10 * time.Second
)

// ErrUnavailable says that ClickHouse could not answer; another time it may.
var ErrUnavailable = errors.New("the read model does not answer")

// ErrTooLarge says that an order has more than OrderLinesMax lines.
var ErrTooLarge = fmt.Errorf("the order has more than %d lines", OrderLinesMax)

// Allocation is an order line that has a batch.
type Allocation struct {
	SKU      string `json:"sku"`
	BatchRef string `json:"batchref"`
}

// Outcome is what became of a command: its last event. Version is the SKU's.
type Outcome struct {
	CommandID     string    `json:"commandid"`
	CommandSource string    `json:"commandsource"`
	Type          string    `json:"outcome"` // the event's short name
	SKU           string    `json:"sku"`
	Version       uint64    `json:"version"`
	OrderID       string    `json:"orderid"`
	BatchRef      string    `json:"batchref"`
	Reason        string    `json:"reason"`
	Message       string    `json:"message"`
	EventTime     time.Time `json:"event_time"`
}

// Reader answers questions. Its methods may be called concurrently; callers
// share the slices that they return.
type Reader struct {
	conn        driver.Conn
	log         *slog.Logger
	logged      atomic.Int64 // when a failure was last logged, Unix ns
	allocations *loader[[]Allocation]
	outcomes    *loader[*Outcome]
	skus        *loader[[]string]
}

// Open returns a Reader whose queries may each take as long as timeout; it
// connects when it is first asked.
func Open(cfg clickhouseclient.Config, timeout time.Duration, metrics *Metrics, log *slog.Logger) (*Reader, error) {
	opts, err := cfg.Options()
	if err != nil {
		return nil, err
	}
	opts.DialTimeout = dialTimeout
	opts.ReadTimeout = timeout
	opts.MaxOpenConns = connections
	opts.MaxIdleConns = connections
	opts.Settings = clickhouse.Settings{
		"max_threads":     1, // point reads: more threads only cost
		"max_result_rows": resultRowsMax,
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("configure the ClickHouse client: %w", err)
	}
	r := &Reader{conn: conn, log: log}
	r.allocations = newLoader("allocations", keysMax, timeout, measured(metrics, "allocations", r.queryAllocations))
	r.outcomes = newLoader("outcome", keysMax, timeout, measured(metrics, "outcome", r.queryOutcomes))
	r.skus = newLoader("skus", keysMax, timeout, measured(metrics, "skus", r.querySKUs))
	return r, nil
}

// Close closes the connections.
func (r *Reader) Close() error { return r.conn.Close() }

// Check asks every question once, about nothing: it fails where the Reader
// would, be it that ClickHouse is away or that a table is missing.
func (r *Reader) Check(ctx context.Context) error {
	none := []string{}
	_, allocations := r.queryAllocations(ctx, none)
	_, outcomes := r.queryOutcomes(ctx, none)
	_, skus := r.querySKUs(ctx, none)
	return errors.Join(allocations, outcomes, skus)
}

// Allocations returns the allocated lines of an order, by SKU; none is no
// error. The error wraps ErrUnavailable or ErrTooLarge, or is ctx's.
func (r *Reader) Allocations(ctx context.Context, orderID string) ([]Allocation, error) {
	lines, err := r.allocations.load(ctx, orderID)
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	if len(lines) > OrderLinesMax {
		return nil, ErrTooLarge
	}
	return lines, nil
}

// Outcome returns what became of the command of that id, or of the first one if
// several have it; nil = nothing known. The error wraps ErrUnavailable or is
// ctx's.
func (r *Reader) Outcome(ctx context.Context, commandID string) (*Outcome, error) {
	outcome, err := r.outcomes.load(ctx, commandID)
	return outcome, r.failed(ctx, err)
}

// SKUs returns the SKUs that have a batch of that ref, at most RefSKUsMax of
// them, in order; none is no error. The error wraps ErrUnavailable or is ctx's.
func (r *Reader) SKUs(ctx context.Context, ref string) ([]string, error) {
	skus, err := r.skus.load(ctx, ref)
	return skus, r.failed(ctx, err)
}

// failed says what err means to a caller, and logs it now and then: when
// ClickHouse is away, every question fails.
func (r *Reader) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	now, last := time.Now().UnixNano(), r.logged.Load()
	if now-last > int64(logInterval) && r.logged.CompareAndSwap(last, now) {
		r.log.Warn("could not read from ClickHouse", "error", err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
