package reads

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

const queryTimeout = 2 * time.Second

// database answers a loader's queries one by one, when the test says so.
type database struct {
	queries chan []string
	answers chan error
}

func newDatabase() (*database, *loader[string, string]) {
	d := &database{queries: make(chan []string, 100), answers: make(chan error)}
	l := newLoader("store", "thing", queryTimeout, NewMetrics(prometheus.NewRegistry()), d.query)
	l.keysMax, l.atOnce = 3, 1
	return d, l
}

func (d *database) query(ctx context.Context, keys []string) (map[string]string, error) {
	d.queries <- keys
	select {
	case err := <-d.answers:
		values := map[string]string{}
		for _, key := range keys {
			if key != "unknown" {
				values[key] = "value of " + key
			}
		}
		return values, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask begins a look-up, and returns when it waits; the result is value or error.
func ask(ctx context.Context, l *loader[string, string], key string) <-chan any {
	result := make(chan any, 1)
	go func() {
		value, err := l.load(ctx, key)
		if err != nil {
			result <- err
			return
		}
		result <- value
	}()
	synctest.Wait()
	return result
}

func TestLoaderGathersWhatQueuedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		keys := []string{"a", "a", "b", "b", "unknown", "c", "d"}
		var results []<-chan any
		for _, key := range keys {
			results = append(results, ask(t.Context(), l, key))
		}
		// The first waits for nobody. The same key again is asked again, since what
		// runs may not see what the second caller knows of; but only once for all.
		for _, want := range [][]string{{"a"}, {"a", "b", "unknown"}, {"c", "d"}} {
			require.Equal(t, want, <-d.queries)
			d.answers <- nil
		}
		for i, key := range keys {
			want := "value of " + key
			if key == "unknown" {
				want = ""
			}
			require.Equal(t, want, <-results[i], "look-up %d", i)
		}
		last := ask(t.Context(), l, "a")
		require.Equal(t, []string{"a"}, <-d.queries, "nothing is remembered")
		d.answers <- nil
		require.Equal(t, "value of a", <-last)
	})
}

func TestLoaderRunsAFewQueriesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		l.atOnce = 2
		results := map[string]<-chan any{}
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			results[key] = ask(t.Context(), l, key)
		}
		require.Equal(t, [][]string{{"a"}, {"b"}}, [][]string{<-d.queries, <-d.queries}, "neither waits for the other")
		require.Empty(t, d.queries, "a third would be one more than may run")
		d.answers <- nil
		require.Equal(t, []string{"c", "d", "e"}, <-d.queries)
		for range 3 {
			d.answers <- nil
		}
		require.Equal(t, []string{"f"}, <-d.queries)
		for key, result := range results {
			require.Equal(t, "value of "+key, <-result)
		}
		synctest.Wait()
		require.Zero(t, l.running)
		require.Zero(t, l.asked)
		last := ask(t.Context(), l, "a")
		d.answers <- nil
		require.Equal(t, "value of a", <-last)
	})
}

// askTogether begins one look-up of several keys, and returns when it waits; the result is their values or error.
func askTogether(ctx context.Context, l *loader[string, string], keys ...string) <-chan any {
	result := make(chan any, 1)
	go func() {
		values, err := l.loadAll(ctx, keys...)
		if err != nil {
			result <- err
			return
		}
		result <- values
	}()
	synctest.Wait()
	return result
}

var valuesOfABC = map[string]string{"a": "value of a", "b": "value of b", "c": "value of c"}

// runs answers until queries take about so long, and then starts one of the keys, of which it returns the result.
func (d *database) runs(t *testing.T, l *loader[string, string], took time.Duration, keys ...string) <-chan any {
	t.Helper()
	for range 20 {
		result := ask(t.Context(), l, "a")
		time.Sleep(took)
		d.answers <- nil
		<-result
		<-d.queries
	}
	result := askTogether(t.Context(), l, keys...)
	require.Equal(t, keys, <-d.queries)
	return result
}

// waits asks for a key, and returns its result and how long it queued before it was queried, alone.
func (d *database) waits(t *testing.T, l *loader[string, string], key string) (<-chan any, time.Duration) {
	t.Helper()
	start := time.Now()
	result := ask(t.Context(), l, key)
	require.Equal(t, []string{key}, <-d.queries)
	return result, time.Since(start)
}

// Beside a query that runs, one of as many keys begins at once, and a smaller one is not made before it ends.
func TestLoaderMakesNoSmallQueryBesideALargeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		l.atOnce = 3
		large := d.runs(t, l, 60*time.Millisecond, "a", "b", "c")
		x, y := ask(t.Context(), l, "x"), ask(t.Context(), l, "y")
		require.Empty(t, d.queries)
		d.answers <- nil
		require.Equal(t, valuesOfABC, <-large)
		require.Equal(t, []string{"x", "y"}, <-d.queries)

		z := ask(t.Context(), l, "z")
		require.Empty(t, d.queries)
		again := ask(t.Context(), l, "y")
		require.Equal(t, []string{"z", "y"}, <-d.queries, "as large as the one that runs")
		other := ask(t.Context(), l, "other")
		require.Empty(t, d.queries)
		for range 3 {
			d.answers <- nil
		}
		for key, result := range map[string]<-chan any{"x": x, "y": y, "z": z, "other": other} {
			require.Equal(t, "value of "+key, <-result)
		}
		require.Equal(t, "value of y", <-again)
	})
}

// One that is stuck holds a single look-up up for a while only, and not for as long as a query may take.
func TestLoaderAsksBesideAQueryThatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		l.atOnce = 2
		stuck := d.runs(t, l, 60*time.Millisecond, "a", "b", "c")
		time.Sleep(time.Second)
		x, waited := d.waits(t, l, "x")
		require.InDelta(t, min(companyFactor*60*time.Millisecond, queueWait), waited, float64(time.Millisecond))
		d.answers <- nil
		d.answers <- nil
		require.Equal(t, valuesOfABC, <-stuck)
		require.Equal(t, "value of x", <-x)
	})
}

// A query that ended in its timeout makes queries seem to take long. The next is stuck too: a look-up would wait for company until
// it had queued for too long, and be refused with two of three queries to be had.
func TestLoaderAsksBesideStuckQueriesAfterTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		l.atOnce = 3
		for range 3 {
			require.Equal(t, context.DeadlineExceeded, <-d.runs(t, l, time.Millisecond, "a", "b", "c"))
			synctest.Wait() // until it counts
		}
		stuck := ask(t.Context(), l, "stuck")
		<-d.queries
		require.Greater(t, l.took, queueWaitMax/4, "queries seem to take long")
		several := askTogether(t.Context(), l, "a", "b", "c")
		<-d.queries
		x, waited := d.waits(t, l, "x")
		require.Equal(t, queueWait, waited)
		for range 3 {
			d.answers <- nil
		}
		require.Equal(t, "value of stuck", <-stuck)
		require.Equal(t, valuesOfABC, <-several)
		require.Equal(t, "value of x", <-x)
	})
}

// When what queues is looked at again goes by what queries take now, not by what they took when a look-up last waited.
func TestLoaderLooksAgainSoonerOnceQueriesTakeLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		l.atOnce = 2
		slow := d.runs(t, l, time.Second, "a", "b", "c")
		waits := ask(t.Context(), l, "x")
		d.answers <- nil // it is answered long before the timer would look
		require.Equal(t, valuesOfABC, <-slow)
		require.Equal(t, []string{"x"}, <-d.queries)
		d.answers <- nil
		require.Equal(t, "value of x", <-waits)
		stuck := d.runs(t, l, time.Millisecond, "a", "b", "c")
		y, waited := d.waits(t, l, "y")
		require.InDelta(t, companyFactor*time.Millisecond, waited, float64(10*time.Millisecond))
		d.answers <- nil
		d.answers <- nil
		require.Equal(t, valuesOfABC, <-stuck)
		require.Equal(t, "value of y", <-y)
	})
}

func TestLoaderTellsAllOfAQueryThatItFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		first := ask(t.Context(), l, "first")
		var failing, later []<-chan any
		for i := range 3 {
			key := fmt.Sprint("key", i)
			failing = append(failing, ask(t.Context(), l, key), ask(t.Context(), l, key))
		}
		for i := range 3 {
			later = append(later, ask(t.Context(), l, fmt.Sprint("later", i)))
		}
		planted := errors.New("planted")
		d.answers <- nil
		d.answers <- planted
		d.answers <- nil
		require.Equal(t, "value of first", <-first)
		for _, result := range failing {
			require.Equal(t, planted, <-result)
		}
		for i, result := range later {
			require.Equal(t, fmt.Sprint("value of later", i), <-result, "a failure is its own query's only")
		}
	})
}

func TestLoaderGoesOnWhenACallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		ctx, leave := context.WithCancel(t.Context())
		running, queued := ask(ctx, l, "a"), ask(ctx, l, "b")
		stays := ask(t.Context(), l, "b")
		leave()
		require.Equal(t, context.Canceled, <-running)
		require.Equal(t, context.Canceled, <-queued)
		d.answers <- nil
		d.answers <- nil
		require.Equal(t, "value of b", <-stays)

		// One who has left before asking holds nobody up either.
		require.Equal(t, context.Canceled, <-ask(ctx, l, "c"))
		d.answers <- nil
	})
}

func TestLoaderBoundsAQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		start := time.Now()
		stuck := ask(t.Context(), l, "a")
		time.Sleep(queryTimeout - queueWaitMax)
		next := ask(t.Context(), l, "b")
		require.Equal(t, context.DeadlineExceeded, <-stuck)
		require.Equal(t, queryTimeout, time.Since(start))
		d.answers <- nil
		require.Equal(t, "value of b", <-next)
	})
}

// Whoever has waited for long would not wait for the answer either; others get theirs sooner.
func TestLoaderDoesNotAskWhatHasWaitedForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		running, waits := ask(t.Context(), l, "a"), ask(t.Context(), l, "b")
		time.Sleep(queueWaitMax + time.Millisecond)
		late := ask(t.Context(), l, "c")
		d.answers <- nil
		require.Equal(t, "value of a", <-running)
		require.Equal(t, ErrOverloaded, <-waits)
		d.answers <- nil
		require.Equal(t, "value of c", <-late)
		require.Equal(t, [][]string{{"a"}, {"c"}}, [][]string{<-d.queries, <-d.queries})
	})
}

// What could not be answered soon, by what queries took lately, is refused at once; what the next query has room for is not.
func TestLoaderRefusesWhatWouldWaitForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		running := d.runs(t, l, 60*time.Millisecond, "a")
		var queued []<-chan any
		for i := range 5 { // the next query has three of them
			queued = append(queued, ask(t.Context(), l, fmt.Sprint("key", i)))
		}
		_, err := l.loadAll(t.Context(), "key5", "key6")
		require.Equal(t, ErrOverloaded, err, "two queries would be before that of key6")
		queued = append(queued, ask(t.Context(), l, "key5"))
		require.Equal(t, ErrOverloaded, <-ask(t.Context(), l, "key6"))
		for range 3 {
			time.Sleep(60 * time.Millisecond)
			d.answers <- nil
		}
		require.Equal(t, map[string]string{"a": "value of a"}, <-running)
		for i, result := range queued {
			require.Equal(t, fmt.Sprint("value of key", i), <-result)
		}
		last := ask(t.Context(), l, "key6")
		d.answers <- nil
		require.Equal(t, "value of key6", <-last, "nothing is left behind")
	})
}

func TestLoaderBoundsItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, l := newDatabase()
		running := ask(t.Context(), l, "a")
		ctx, leave := context.WithCancel(t.Context())
		for i := range 3 * (queueQueriesMax + 1) {
			ask(ctx, l, fmt.Sprint(i))
		}
		require.Equal(t, ErrOverloaded, <-ask(t.Context(), l, "one more"))
		leave()
		for range queueQueriesMax + 2 {
			d.answers <- nil
		}
		require.Equal(t, "value of a", <-running)
	})
}
