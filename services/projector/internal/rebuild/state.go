package rebuild

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

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
			rows, err := w.readChunk(ctx, c, true)
			if err != nil {
				return err
			}
			read := time.Now()
			n := rows.Len()
			if err := r.load(ctx, *rows); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r.reading += read.Sub(began)
			r.loading += time.Since(read)
			loaded += int64(n)
			r.progress(loaded, lines, "rows")
			return r.retry(ctx, "mark a part", func(ctx context.Context) error {
				return r.Store.Mark(ctx, r.generation, c.name(), strconv.Itoa(n))
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

// load adds rows to the generation, no faster than it may.
func (r *rebuild) load(ctx context.Context, rows readmodel.State) error {
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
		if err := r.retry(ctx, "load rows into generation "+strconv.Itoa(r.generation), func(ctx context.Context) error {
			return r.Store.Load(ctx, r.generation, &part)
		}); err != nil {
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
