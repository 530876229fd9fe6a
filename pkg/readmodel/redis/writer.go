package redis

import (
	"context"
	"crypto/rand"
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
	block  string // that is being applied, or was when it failed and is applied again; ""
}

var _ readmodel.Writer = (*Writer)(nil)

// NewWriter returns a writer. It connects when it is first used, so that a Redis that is away at the start is an outage
// like any other.
func NewWriter(cfg Config) *Writer {
	return &Writer{client: cfg.connect(applyTimeout, 1), keys: keys{prefix: cfg.Prefix}}
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

// Apply keeps the rows of a block by scripts, each of which compares and keeps a part of them at once, in every generation.
func (w *Writer) Apply(ctx context.Context, records []readmodel.Record) (err error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	ctx, span := telemetry.Child(ctx, "EVALSHA", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.DBSystemNameRedis, semconv.DBOperationName("EVALSHA"), semconv.DBOperationBatchSize(len(records))))
	defer func() { telemetry.End(span, err) }()
	rows := readmodel.Fold(records)
	all := partsOf(&rows.State)
	state := len(all)
	if state > 1 && len(rows.Outcomes) > 0 {
		all = append(all, nil) // no part of the state may have outcomes of what another has
	}
	for i := range rows.Outcomes { // last: whoever finds a command's outcome finds what it did
		o := &rows.Outcomes[i]
		text, err := json.Marshal(o.Outcome)
		if err != nil {
			return fmt.Errorf("encode the outcome of command %s: %w", o.CommandID, err)
		}
		all.add("outcome", o.CommandID, "", "", fmt.Sprintf("%d %d %d %s", o.EventTime.UnixMicro(), o.Partition, o.Offset, text))
	}
	if w.block == "" {
		w.block = rand.Text()
	}
	if err := w.run(ctx, "", w.block, all, state); err != nil {
		return classify(fmt.Errorf("write the rows of %d events: %w", len(records), err))
	}
	w.block = ""
	return nil
}

// parts are the rows of a block, each as much as one run of the script is given.
type parts [][]any

func (all *parts) add(kind, id, field, order, value string) {
	const words = 5
	last := len(*all) - 1
	if last < 0 || len((*all)[last]) == words*scriptRowsMax {
		*all, last = append(*all, nil), last+1
	}
	(*all)[last] = append((*all)[last], kind, id, field, order, value)
}

func partsOf(rows *readmodel.State) (all parts) {
	for i := range rows.Lines {
		l := &rows.Lines[i]
		kind, version := "line", strconv.FormatUint(l.Version, 10)
		if l.BatchRef == "" {
			kind = "gone"
		}
		all.add(kind, l.OrderID, l.SKU, version, fmt.Sprintf("%s %d %s %s", version, l.Qty, dayOf(l.ETA), l.BatchRef))
	}
	for i := range rows.Batches {
		b := &rows.Batches[i]
		version := strconv.FormatUint(b.Version, 10)
		all.add("row", b.SKU, b.Ref, version, fmt.Sprintf("%s %d %d %s", version, b.Qty, b.Available, dayOf(b.ETA)))
	}
	for _, s := range rows.SKUs {
		version := strconv.FormatUint(s.Version, 10)
		all.add("row", s.SKU, "", version, fmt.Sprintf("%s %d", version, s.Available))
	}
	for _, r := range rows.Refs {
		all.add("ref", r.Ref, r.SKU, "", "")
	}
	return all
}

// run writes parts to one generation or, if that is "", to all. Until the last part is written the block is among those that
// Settle waits for. Of scripts that are sent together those behind one that fails are run nevertheless: so what the first parts, the
// state, come to is known before any outcome is sent, and what all others come to before the last part is.
func (w *Writer) run(ctx context.Context, generation, block string, all parts, state int) error {
	for i := 0; i < len(all); {
		n := min(len(all)-i, pipelineScriptsMax)
		if i < state {
			n = min(n, state-i)
		}
		if last := len(all) - 1; block != "" && i < last {
			n = min(n, last-i)
		}
		_, err := w.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
			for j, rows := range all[i : i+n] {
				part := "middle"
				switch at := i + j; {
				case block == "": // of Load, which nobody waits for
				case len(all) == 1:
					part = "only"
				case at == 0:
					part = "first"
				case at == len(all)-1:
					part = "last"
				}
				args := append([]any{w.keys.prefix, generation, block, part, int(applyTimeout.Seconds())}, rows...)
				pipe.EvalSha(ctx, applyScript.Hash(), []string{w.keys.generations(), w.keys.applying()}, args...)
			}
			return nil
		})
		switch {
		case goredis.HasErrorPrefix(err, "NOSCRIPT"): // the server is new, or was restarted, maybe as one that forgets
			if err := w.Check(ctx); err != nil {
				return err
			}
			if err := applyScript.Load(ctx, w.client).Err(); err != nil {
				return fmt.Errorf("load the script: %w", err)
			}
		case err != nil:
			return err
		default:
			i += n
		}
	}
	return nil
}
