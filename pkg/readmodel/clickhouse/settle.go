package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// inFlightPause is between two looks at the inserts that are running.
const inFlightPause = 20 * time.Millisecond

// Settle waits until none is running of the inserts that are now. A query is in the list of running ones from before it
// does anything until it has ended, so whatever was half in the tables when Settle was called is in all of them after it.
// (The list is one server's: in a cluster it is to be asked of all.)
func (g *Generations) Settle(ctx context.Context) error {
	before, err := g.inserting(ctx)
	if err != nil {
		return err
	}
	return g.waitFor(ctx, func(running []string) bool {
		return !slices.ContainsFunc(running, func(id string) bool { return slices.Contains(before, id) })
	})
}

// inserting returns the ids of the inserts that are running.
func (g *Generations) inserting(ctx context.Context) ([]string, error) {
	var all []string
	var id string
	if err := each(ctx, g.writer.conn, "SELECT query_id FROM system.processes WHERE query_kind = 'Insert'", nil, []any{&id}, func() error {
		all = append(all, id)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list the inserts that are running: %w", err)
	}
	return all, nil
}

// waitFor looks at the running inserts until they satisfy.
func (g *Generations) waitFor(ctx context.Context, satisfied func(running []string) bool) error {
	for {
		running, err := g.inserting(ctx)
		if err != nil {
			return err
		}
		if satisfied(running) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %d inserts to end: %w", len(running), context.Cause(ctx))
		case <-time.After(inFlightPause):
		}
	}
}
