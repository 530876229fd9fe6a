package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/telemetry"
)

const (
	// applyTimeout bounds one attempt, which is then made again.
	applyTimeout = time.Minute
	// scriptRowsMax bounds what one script does: while it runs, nobody else is answered.
	scriptRowsMax = 500
	// pipelineScriptsMax bounds what is sent before answers are read.
	pipelineScriptsMax = 20
)

// Writer keeps the read model in Redis. It is a readmodel.Writer.
type Writer struct {
	client *goredis.Client
	keys   keys
}

var _ readmodel.Writer = (*Writer)(nil)

// NewWriter returns a writer. It connects when it is first used, so that a Redis that is away at the start is an outage
// like any other.
func NewWriter(cfg Config) *Writer {
	return &Writer{client: cfg.connect(applyTimeout, 1), keys: keys{cfg.Prefix}}
}

// Name is redis.
func (w *Writer) Name() string { return name }

// Close releases the connection.
func (w *Writer) Close() error { return w.client.Close() }

// Check refuses a server that would lose rows: what is not on disk is gone after a restart, and what is evicted at any
// time, while the offsets say that it was projected.
func (w *Writer) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	said := map[string]string{}
	for _, section := range []string{"persistence", "memory"} {
		info, err := w.client.Info(ctx, section).Result()
		if err != nil {
			return fmt.Errorf("ask Redis how it keeps what it has (INFO %s): %w", section, err)
		}
		for line := range strings.Lines(info) {
			field, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			said[field] = value
		}
	}
	if said["aof_enabled"] != "1" {
		return fmt.Errorf("this Redis would forget everything in a restart: set appendonly to yes (appendfsync always loses nothing even if the machine dies)")
	}
	if policy := said["maxmemory_policy"]; policy != "noeviction" && said["maxmemory"] != "0" {
		return fmt.Errorf("this Redis would throw rows away when its memory is full: set maxmemory-policy to noeviction, it is %s", policy)
	}
	return nil
}

// Apply keeps the rows of a block by scripts, each of which compares and keeps a part of them at once.
func (w *Writer) Apply(ctx context.Context, records []readmodel.Record) (err error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	ctx, span := telemetry.Child(ctx, "EVALSHA", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.DBSystemNameRedis, semconv.DBOperationName("EVALSHA"), semconv.DBOperationBatchSize(len(records))))
	defer func() { telemetry.End(span, err) }()
	parts, err := w.parts(readmodel.Fold(records))
	if err != nil {
		return err
	}
	err = w.run(ctx, parts)
	if goredis.HasErrorPrefix(err, "NOSCRIPT") { // the server is new, or was restarted
		if err := applyScript.Load(ctx, w.client).Err(); err != nil {
			return fmt.Errorf("load the script: %w", err)
		}
		err = w.run(ctx, parts)
	}
	if err != nil {
		return fmt.Errorf("write the rows of %d events: %w", len(records), err)
	}
	return nil
}

// part is what one run of the script is given.
type part struct {
	keys []string
	args []any
}

// parts are the rows of a block, outcomes last: whoever finds a command's outcome finds what it did.
func (w *Writer) parts(rows readmodel.Rows) ([]part, error) {
	var all []part
	add := func(key, other, kind, field, order, value string) {
		if len(all) == 0 || len(all[len(all)-1].keys) == 2*scriptRowsMax {
			all = append(all, part{})
		}
		p := &all[len(all)-1]
		p.keys, p.args = append(p.keys, key, other), append(p.args, kind, field, order, value)
	}
	for i := range rows.Lines {
		l := &rows.Lines[i]
		kind, version := "line", strconv.FormatUint(l.Version, 10)
		if l.BatchRef == "" {
			kind = "gone"
		}
		add(w.keys.order(l.OrderID), w.keys.gone(l.OrderID), kind, l.SKU, version,
			fmt.Sprintf("%s %d %s %s", version, l.Qty, dayOf(l.ETA), l.BatchRef))
	}
	for i := range rows.Batches {
		b := &rows.Batches[i]
		key, version := w.keys.sku(b.SKU), strconv.FormatUint(b.Version, 10)
		add(key, key, "row", b.Ref, version, fmt.Sprintf("%s %d %d %s", version, b.Qty, b.Available, dayOf(b.ETA)))
	}
	for _, s := range rows.SKUs {
		key, version := w.keys.sku(s.SKU), strconv.FormatUint(s.Version, 10)
		add(key, key, "row", "", version, fmt.Sprintf("%s %d", version, s.Available))
	}
	for _, r := range rows.Refs {
		add(w.keys.ref(r.Ref), w.keys.ref(r.Ref), "ref", r.SKU, "", "")
	}
	for i := range rows.Outcomes {
		o := &rows.Outcomes[i]
		text, err := json.Marshal(o.Outcome)
		if err != nil {
			return nil, fmt.Errorf("encode the outcome of command %s: %w", o.CommandID, err)
		}
		key := w.keys.outcome(o.CommandID)
		add(key, key, "outcome", "", "", fmt.Sprintf("%d %d %d %s", o.EventTime.UnixMicro(), o.Partition, o.Offset, text))
	}
	return all, nil
}

func (w *Writer) run(ctx context.Context, parts []part) error {
	for len(parts) > 0 {
		n := min(len(parts), pipelineScriptsMax)
		_, err := w.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
			for _, p := range parts[:n] {
				pipe.EvalSha(ctx, applyScript.Hash(), p.keys, p.args...)
			}
			return nil
		})
		if err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}
