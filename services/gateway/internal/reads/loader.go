package reads

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/telemetry"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// loader makes few queries of many look-ups: what queued while others ran is the next query. One look-up alone waits for nothing; a
// hundred at once cost little more than one. A key that queues while a query for it runs is queried again, so no answer is older
// than its question.
//
// A look-up that could not be answered soon is refused before it queues, and one that has waited for too long after all
// is not queried any more: its caller would not wait for the answer, and what a store has no time for must not keep it from
// answering others.
type loader[K comparable, V any] struct {
	store, question string // name its queries in traces

	query   func(ctx context.Context, keys []K) (map[K]V, error)
	keysMax int           // of one query
	atOnce  int           // queries that may run
	timeout time.Duration // of one query
	shed    prometheus.Counter

	mu      sync.Mutex
	queue   []K
	queued  map[K]*lookup[V]
	running int           // queries
	asked   int           // keys of those that run
	took    time.Duration // by a query, about
	wake    *time.Timer   // looks at the queue again
}

const (
	// queriesAtOnce is how many queries of one kind run at once. One alone leaves all cores of the store but one idle, and that one too
	// while question and answer are on their way; many would be small ones, of which each look-up costs more.
	queriesAtOnce = 3
	// companyFactor is for how many times as long as queries take look-ups wait for company at most, and never for longer than
	// queueWait: one that runs is much larger then, or stuck.
	companyFactor = 2
	// queueWait is how long a look-up may have to wait, by what queries took lately, before the query that answers it begins.
	// What fits into the next query always may: it waits for one query only, which has its own bound.
	queueWait = 100 * time.Millisecond
	// queueWaitMax is how long it does wait at most.
	queueWaitMax = time.Second
	// queueQueriesMax bounds the memory of a queue, in queries.
	queueQueriesMax = 20
)

type lookup[V any] struct {
	since time.Time
	done  chan struct{} // closed when the others are set
	value V
	err   error

	traced []trace.Span // of those who wait for it
}

func newLoader[K comparable, V any](store, question string, timeout time.Duration, metrics *Metrics, query func(context.Context, []K) (map[K]V, error)) *loader[K, V] {
	return &loader[K, V]{
		store: store, question: question, query: measured(metrics, question, query), keysMax: readmodel.KeysMax, atOnce: queriesAtOnce, timeout: timeout,
		shed: metrics.shed.WithLabelValues(question), queued: map[K]*lookup[V]{},
	}
}

// load returns the key's value, the zero value if there is none. Callers share
// what it returns.
func (l *loader[K, V]) load(ctx context.Context, key K) (V, error) {
	values, err := l.loadAll(ctx, key)
	return values[key], err
}

// loadAll returns the values of several keys, looked up together as far as a query may hold them.
func (l *loader[K, V]) loadAll(ctx context.Context, keys ...K) (map[K]V, error) {
	lookups, err := l.enqueue(ctx, keys)
	if err != nil {
		return nil, err
	}
	values := make(map[K]V, len(keys))
	for i, lookup := range lookups {
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

// enqueue queues what is not queued yet, and sees to it that it is looked up. The error is ErrOverloaded.
func (l *loader[K, V]) enqueue(ctx context.Context, keys []K) ([]*lookup[V], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full(len(keys)) {
		l.shed.Inc()
		return nil, ErrOverloaded
	}
	lookups := make([]*lookup[V], len(keys))
	span := trace.SpanFromContext(ctx)
	for i, key := range keys {
		lookups[i] = l.enqueueOne(key)
		if span.IsRecording() && len(lookups[i].traced) < telemetry.TogetherMax {
			lookups[i].traced = append(lookups[i].traced, span)
		}
	}
	l.proceed()
	return lookups, nil
}

// full reports whether n more look-ups would have to wait for too long.
func (l *loader[K, V]) full(n int) bool {
	queries := (len(l.queue) + n - 1) / l.keysMax // before the one that has the last of them
	return queries > queueQueriesMax || time.Duration(queries)*l.took/time.Duration(l.atOnce) > queueWait
}

func (l *loader[K, V]) enqueueOne(key K) *lookup[V] {
	found, ok := l.queued[key]
	if !ok {
		found = &lookup[V]{since: time.Now(), done: make(chan struct{})}
		l.queued[key] = found
		l.queue = append(l.queue, key)
	}
	return found
}

// proceed begins the queries that are due, and sees to it that it is called again when the next one is. l.mu must be held.
func (l *loader[K, V]) proceed() {
	for l.running < l.atOnce && len(l.queue) > 0 {
		if wait := l.early(); wait > 0 {
			if l.wake == nil {
				l.wake = time.AfterFunc(wait, l.again)
			} else {
				l.wake.Reset(wait)
			}
			return
		}
		if keys, lookups := l.take(); len(keys) > 0 {
			l.running++
			l.asked += len(keys)
			go l.answer(keys, lookups)
		}
	}
}

// early returns how long a query of what queues would be too early, 0 or less if it is due. Beside others, it is once it has as
// many keys as they have on average: the store takes as long for a query of one as for ten keys more, and of smaller and smaller
// queries it would have no time left for the next. When the last of them ends, it is in any case, and before that if they take
// too long: with queries that have ended in their timeouts lately, twice as long as they take is longer than look-ups may queue.
func (l *loader[K, V]) early() time.Duration {
	if len(l.queue)*l.running >= l.asked {
		return 0
	}
	return min(companyFactor*l.took, queueWait) - time.Since(l.queued[l.queue[0]].since)
}

func (l *loader[K, V]) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proceed()
}

// answer runs a query, hands out what it answers, and begins the next.
func (l *loader[K, V]) answer(keys []K, lookups []*lookup[V]) {
	// No caller's context: a query answers many.
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	start := time.Now()
	values, err := l.ask(ctx, keys, lookups)
	for i, key := range keys {
		lookups[i].value, lookups[i].err = values[key], err
		close(lookups[i].done)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	l.asked -= len(keys)
	l.took += (time.Since(start) - l.took) / 4
	l.proceed()
}

// ask runs one query, as a span of all who wait for it and are traced.
func (l *loader[K, V]) ask(ctx context.Context, keys []K, lookups []*lookup[V]) (map[K]V, error) {
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

// take returns what is to be looked up next. l.mu must be held.
func (l *loader[K, V]) take() (keys []K, lookups []*lookup[V]) {
	now := time.Now()
	for len(l.queue) > 0 && len(keys) < l.keysMax {
		key := l.queue[0]
		l.queue = l.queue[1:]
		lookup := l.queued[key]
		delete(l.queued, key)
		if now.Sub(lookup.since) > queueWaitMax {
			l.shed.Inc()
			lookup.err = ErrOverloaded
			close(lookup.done)
			continue
		}
		keys, lookups = append(keys, key), append(lookups, lookup)
	}
	if len(l.queue) == 0 {
		l.queue = nil // not the end of an array that grows
	}
	return keys, lookups
}
