package rebuild

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/readmodel"
)

// fromState loads what the write side has, chunk by chunk, each marked once it is loaded.
func (r *rebuild) fromState(ctx context.Context) error {
	w, err := openWriteSide(ctx, r.PostgresURL, r.CommandsTopic, r.Workers)
	if err != nil {
		return err
	}
	defer w.close()
	chunks, lines, err := w.chunks(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex // of what follows, of marks and of r's
	var loaded int64
	left := make([]chunk, 0, len(chunks))
	for _, c := range chunks {
		if rows, done := r.marks[c.name()]; done {
			n, _ := strconv.ParseInt(rows, 10, 64) // written below
			loaded += n
			continue
		}
		left = append(left, c)
	}
	r.progress(loaded, lines, "rows")
	whole := ctx
	group, ctx := errgroup.WithContext(whole)
	group.SetLimit(r.Workers)
	for _, c := range left {
		group.Go(func() error {
			began := time.Now()
			rows, loading, err := r.load(ctx, w, c)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r.reading += time.Since(began) - loading
			r.loading += loading
			loaded += int64(rows)
			r.progress(loaded, lines, "rows")
			return r.retry(ctx, "mark a part", func(ctx context.Context) error {
				return r.Store.Mark(ctx, r.generation, c.name(), strconv.Itoa(rows))
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	logged, ok := r.Store.(readmodel.Logged)
	if !ok {
		return nil
	}
	return r.retry(whole, "complete lines", func(ctx context.Context) error { return logged.CompleteLines(ctx, r.generation) })
}

// load adds a chunk's rows to the generation, no faster than it may, and returns how many they were and how long the store took
// of the time.
func (r *rebuild) load(ctx context.Context, w *writeSide, c chunk) (rows int, took time.Duration, err error) {
	if r.RowsPerSecondMax > 0 { // all are read first, or the snapshot would be open for as long
		var all readmodel.State
		if err := w.readChunk(ctx, c, true, gather(&all)); err != nil {
			return 0, 0, err
		}
		began := time.Now()
		err = r.loadSlowly(ctx, all)
		return all.Len(), time.Since(began), err
	}
	err = r.store(ctx, func(ctx context.Context) (err error) {
		rows, took, err = r.loadAsRead(ctx, w, c)
		return err
	})
	return rows, took, err
}

// store repeats what adds rows to the generation until the store has all of them.
func (r *rebuild) store(ctx context.Context, load func(context.Context) error) error {
	return r.retry(ctx, "load rows into generation "+strconv.Itoa(r.generation), load)
}

// loadAsRead adds a chunk's rows while they are read. What keeps it from reading is permanent; what keeps the store from taking
// them is not, and then they are read again.
func (r *rebuild) loadAsRead(ctx context.Context, w *writeSide, c chunk) (rows int, took time.Duration, err error) {
	var read time.Time // when all was
	err = r.Store.Load(ctx, r.generation, func(add func(*readmodel.State) error) error {
		defer func() { read = time.Now() }()
		var stored error
		err := w.readChunk(ctx, c, true, func(part *readmodel.State) error {
			began := time.Now()
			rows += part.Len()
			stored = add(part)
			took += time.Since(began)
			return stored
		})
		if stored != nil {
			return stored
		}
		return fault.Permanent(err)
	})
	return rows, took + time.Since(read), err
}

// loadSlowly adds rows no faster than it may: each quarter of a second's by themselves.
func (r *rebuild) loadSlowly(ctx context.Context, rows readmodel.State) error {
	for rows.Len() > 0 {
		var part readmodel.State
		left := r.pace.most(rows.Len())
		part.SKUs, rows.SKUs, left = take(rows.SKUs, left)
		part.Batches, rows.Batches, left = take(rows.Batches, left)
		part.Refs, rows.Refs, left = take(rows.Refs, left)
		part.Lines, rows.Lines, _ = take(rows.Lines, left)
		if err := r.pace.wait(ctx, part.Len()); err != nil {
			return err
		}
		if err := r.store(ctx, func(ctx context.Context) error { return r.Store.Load(ctx, r.generation, part.Whole) }); err != nil {
			return err
		}
	}
	return nil
}

// take splits the first n rows, or all, from the others, and returns how many of n are left.
func take[R any](rows []R, n int) (first, others []R, left int) {
	k := min(n, len(rows))
	return rows[:k], rows[k:], n - k
}
