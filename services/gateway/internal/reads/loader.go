package reads

import (
	"context"
	"sync"
	"time"

	"github.com/lotline/lotline/pkg/telemetry"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// loader makes few queries of many look-ups: what queued while the last query
// ran is the next query. One look-up alone waits for nothing; a hundred at once
// cost little more than one. A key that queues while a query for it runs is
// queried again, so no answer is older than its question.
//
// Its queue is as long as there are callers: bounding them is theirs.
type loader[V any] struct {
	store, question string // name its queries in traces

	query   func(ctx context.Context, keys []string) (map[string]V, error)
	keysMax int           // of one query
	timeout time.Duration // of one query

	mu     sync.Mutex
	queue  []string
	queued map[string]*lookup[V]
	busy   bool // drain runs
}

type lookup[V any] struct {
	done  chan struct{} // closed when the others are set
	value V
	err   error

	traced []trace.Span // of those who wait for it
}

func newLoader[V any](store, question string, keysMax int, timeout time.Duration, query func(context.Context, []string) (map[string]V, error)) *loader[V] {
	return &loader[V]{store: store, question: question, query: query, keysMax: keysMax, timeout: timeout, queued: map[string]*lookup[V]{}}
}

// load returns the key's value, the zero value if there is none. Callers share
// what it returns.
func (l *loader[V]) load(ctx context.Context, key string) (V, error) {
	values, err := l.loadAll(ctx, key)
	return values[key], err
}

// loadAll returns the values of several keys, looked up together as far as a query may hold them.
func (l *loader[V]) loadAll(ctx context.Context, keys ...string) (map[string]V, error) {
	values := make(map[string]V, len(keys))
	for i, lookup := range l.enqueue(ctx, keys) {
		select {
		case <-lookup.done:
			if lookup.err != nil {
				return nil, lookup.err
			}
			values[keys[i]] = lookup.value
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return values, nil
}

// enqueue queues what is not queued yet, and sees to it that it is looked up.
func (l *loader[V]) enqueue(ctx context.Context, keys []string) []*lookup[V] {
	l.mu.Lock()
	defer l.mu.Unlock()
	lookups := make([]*lookup[V], len(keys))
	span := trace.SpanFromContext(ctx)
	for i, key := range keys {
		lookups[i] = l.enqueueOne(key)
		if span.IsRecording() && len(lookups[i].traced) < telemetry.TogetherMax {
			lookups[i].traced = append(lookups[i].traced, span)
		}
	}
	if !l.busy && len(keys) > 0 {
		l.busy = true
		go l.drain()
	}
	return lookups
}

func (l *loader[V]) enqueueOne(key string) *lookup[V] {
	found, ok := l.queued[key]
	if !ok {
		found = &lookup[V]{done: make(chan struct{})}
		l.queued[key] = found
		l.queue = append(l.queue, key)
	}
	return found
}

// drain runs one query after the other until nothing is queued.
func (l *loader[V]) drain() {
	for {
		keys, lookups := l.take()
		if len(keys) == 0 {
			return
		}
		// No caller's context: a query answers many.
		ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
		values, err := l.ask(ctx, keys, lookups)
		cancel()
		for i, key := range keys {
			lookups[i].value, lookups[i].err = values[key], err
			close(lookups[i].done)
		}
	}
}

// ask runs one query, as a span of all who wait for it and are traced.
func (l *loader[V]) ask(ctx context.Context, keys []string, lookups []*lookup[V]) (map[string]V, error) {
	var traced []trace.Span
	for _, lookup := range lookups {
		traced = append(traced, lookup.traced...)
	}
	if len(traced) == 0 {
		return l.query(ctx, keys)
	}
	ctx, span := telemetry.Together(ctx, "query "+l.question, traced[:min(len(traced), telemetry.TogetherMax)],
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			semconv.DBSystemNameKey.String(l.store), semconv.DBOperationName("SELECT"), semconv.DBOperationBatchSize(len(keys))))
	values, err := l.query(ctx, keys)
	telemetry.End(span, err)
	return values, err
}

func (l *loader[V]) take() ([]string, []*lookup[V]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.queue), l.keysMax)
	if n == 0 {
		l.busy, l.queue = false, nil
		return nil, nil
	}
	keys := l.queue[:n:n]
	l.queue = l.queue[n:]
	lookups := make([]*lookup[V], n)
	for i, key := range keys {
		lookups[i] = l.queued[key]
		delete(l.queued, key)
	}
	return keys, lookups
}
