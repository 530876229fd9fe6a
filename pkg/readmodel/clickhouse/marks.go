package clickhouse

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Mark keeps the newest value of each name.
func (g *Generations) Mark(ctx context.Context, generation int, name, value string) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings))
	if err := g.writer.conn.Exec(ctx, "INSERT INTO "+of(marks, generation)+" (name, value) SELECT @name, @value",
		clickhouse.Named("name", name), clickhouse.Named("value", value)); err != nil {
		return fmt.Errorf("mark generation %d with %s: %w", generation, name, err)
	}
	return nil
}

// Marks returns nothing for a generation that Begin did not make, as the first one.
func (g *Generations) Marks(ctx context.Context, generation int) (map[string]string, error) {
	tables, err := tablesOf(ctx, g.writer.conn)
	if err != nil {
		return nil, err
	}
	kept := make(map[string]string)
	if _, made := tables[of(marks, generation)]; !made {
		return kept, nil
	}
	var mark, value string
	if err := each(ctx, g.writer.conn, "SELECT name, value FROM "+of(marks, generation)+" FINAL", nil, []any{&mark, &value}, func() error {
		kept[mark] = value
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the marks of generation %d: %w", generation, err)
	}
	return kept, nil
}
