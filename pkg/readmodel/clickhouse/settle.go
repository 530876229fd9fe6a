package clickhouse

import (
	"context"
	"fmt"

	"github.com/lotline/lotline/pkg/readmodel/internal/underway"
)

// Settle waits until none is running of the inserts that are now. A query is in the list of running ones from before it
// does anything until it has ended, so whatever was half in the tables when Settle was called is in all of them after it.
//
// The list is one server's, so on a cluster each host is asked: the one that a block was sent to has it in its list until all
// shards have it, and what is left on a shard when that host died is in the shard's.
func (g *Generations) Settle(ctx context.Context) error {
	return underway.List(g.inserting).Settle(ctx)
}

// insertsSQL lists the inserts that may be of this database's tables: its own, and on a cluster all that other hosts have sent, whose
// database is not told. The text would tell, which is nobody's business.
const insertsSQL = "SELECT query_id FROM system.processes WHERE query_kind = 'Insert' AND (current_database = currentDatabase() OR NOT is_initial_query)"

// inserting returns the ids of the inserts that are running.
func (g *Generations) inserting(ctx context.Context) ([]string, error) {
	s, err := g.at(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, insertTimeout) // a host that is frozen is named, like one that is away
	defer cancel()
	var all []string
	var id string
	for _, h := range s.hosts {
		if err := each(ctx, h.conn, insertsSQL, nil, []any{&id}, func() error {
			all = append(all, h.addr+id)
			return nil
		}); err != nil {
			return nil, h.named(fmt.Errorf("list the inserts that are running: %w", err))
		}
	}
	return all, nil
}
