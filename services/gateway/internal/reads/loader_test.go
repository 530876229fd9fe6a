package reads

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const queryTimeout = 2 * time.Second

// database answers a loader's queries one by one, when the test says so.
type database struct {
	queries chan []string
	answers chan error
}

func newDatabase() (*database, *loader[string]) {
	d := &database{queries: make(chan []string, 100), answers: make(chan error)}
	return d, newLoader("store", "thing", 3, queryTimeout, d.query)
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
func ask(ctx context.Context, l *loader[string], key string) <-chan any {
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
		stuck, next := ask(t.Context(), l, "a"), ask(t.Context(), l, "b")
		require.Equal(t, context.DeadlineExceeded, <-stuck)
		require.Equal(t, queryTimeout, time.Since(start))
		d.answers <- nil
		require.Equal(t, "value of b", <-next)
	})
}
