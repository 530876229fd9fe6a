package clickhouse

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"strings"
)

// shape has the statements that make a generation, a file a table, with {{.}} for its number, and what migrations have for
// clusters. Migrations 3 to 6 made the first one; tests hold the two against each other. What changes here is in the next
// generation.
//
//go:embed generations/*.sql
var shape embed.FS

// Begin makes a generation's tables at every host and then, when all hosts have all of them, the views that feed them: a view
// writes to the tables of all shards, and an insert that it could not follow would be an outage of the projector.
//
// An insert finds out which views there are while it starts, so one that started before a view existed never reaches it. It
// is among those that Settle waits for: a query is in the list of running ones before it looks for views.
func (g *Generations) Begin(ctx context.Context, generation int) error {
	s, err := g.at(ctx)
	if err != nil {
		return err
	}
	tables, views, err := g.statements(s.Cluster, generation)
	if err != nil {
		return err
	}
	for _, step := range append(marksTables(s.Cluster, generation), tables, views) {
		if err := s.exec(ctx, step...); err != nil {
			return err
		}
	}
	return g.Settle(ctx)
}

// statements returns what makes a generation at each host.
func (g *Generations) statements(on Cluster, generation int) (tables, views []string, err error) {
	files, err := fs.Glob(g.shape, "generations/*.sql")
	if err != nil || len(files) == 0 {
		return nil, nil, errors.Join(errors.New("a generation's statements are not in this build"), err)
	}
	for _, file := range files {
		text, err := on.write(g.shape, file, generation)
		if err != nil {
			return nil, nil, err
		}
		for statement := range strings.SplitSeq(text, ";\n") {
			statement = strings.TrimSpace(statement)
			switch {
			case statement == "":
			case strings.HasPrefix(statement, "CREATE TABLE"):
				tables = append(tables, statement)
			default:
				views = append(views, statement)
			}
		}
	}
	return tables, views, nil
}

// marksTables returns what makes the table of marks, in steps: whoever finds it on a cluster can read it, since every host has its
// part of it by then.
func marksTables(on Cluster, generation int) (steps [][]string) {
	table := of(marks, generation)
	steps = append(steps, []string{"CREATE TABLE IF NOT EXISTS " + on.local(table) +
		" (name String, value String, at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = " + on.engine("ReplacingMergeTree", "at") + " ORDER BY name" +
		" COMMENT 'How far the making of this generation has come'"})
	if over := on.distributed(table, "name"); over != "" {
		steps = append(steps, []string{strings.Trim(over, ";\n")})
	}
	return steps
}
