package clickhouse

import (
	"context"
	"fmt"

	"github.com/lotline/lotline/pkg/readmodel/internal/underway"
)

// Settle waits until none is running of the inserts that are now. A query is in the list of running ones from before it
// does anything until it has ended, so whatever was half in the tables when Settle was called is in all of them after it.
// (The list is one server's: in a cluster it is to be asked of all.)
func (g *Generations) Settle(ctx context.Context) error {
	return underway.List(g.inserting).Settle(ctx)
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
