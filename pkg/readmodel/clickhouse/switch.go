package clickhouse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/lotline/lotline/pkg/readmodel/internal/underway"
)

// quietMax is how long Switch waits for a moment without an insert.
const quietMax = 5 * time.Second

// Switch exchanges the aliases with others that stand for the generation, never the tables themselves: views write to
// those by name, and would go on filling the one that has the name.
//
// One statement exchanges all four of a host. ClickHouse makes each exchange atomic, one after the other: between the first and
// the last, well under a millisecond, a reader can find tables of both generations, which have the same but for what was
// wrong. A block that is being written does not reach all tables at one moment either, so Switch waits for a moment without an
// insert: else a reader could find it in the old generation and not yet in the new one. Where inserts never cease it
// switches after 5 s all the same.
//
// On a cluster it goes from host to host once all of them are ready, and each query is answered from one generation, that of
// the host which is asked: an alias stands for a table over all shards.
func (g *Generations) Switch(ctx context.Context, generation int) error {
	s, err := g.at(ctx)
	if err != nil {
		return err
	}
	hosts, err := s.tables(ctx)
	if err != nil {
		return err
	}
	for i, tables := range hosts {
		if err := whole(s.Cluster, tables, generation); err != nil {
			return s.hosts[i].named(err)
		}
	}
	pairs, mine := make([][]string, len(hosts)), fmt.Sprintf("_other_%016x", rand.Uint64())
	switching := false
	for i, tables := range hosts {
		for _, alias := range generationTables {
			target := of(alias, generation)
			if strings.HasSuffix(tables[alias], "'"+target+"')") {
				continue
			}
			if err := s.hosts[i].exec(ctx, "CREATE TABLE "+alias+mine+" ENGINE = Alias("+target+")"); err != nil {
				return err
			}
			pairs[i] = append(pairs[i], alias+" AND "+alias+mine)
			switching = true
		}
	}
	if switching {
		began := time.Now()
		if err := underway.List(g.inserting).Await(ctx, func(running []string) bool { return len(running) == 0 || time.Since(began) > quietMax }); err != nil {
			return err
		}
	}
	for i, exchanges := range pairs {
		if len(exchanges) == 0 {
			continue
		}
		if err := s.hosts[i].exec(ctx, "EXCHANGE TABLES "+strings.Join(exchanges, ", ")); err != nil {
			return fmt.Errorf("%w (it may be switched in part: run the same again to finish)", err)
		}
	}
	return s.dropOthers(ctx)
}

// isOther matches the aliases that switches exchange those of readers with. Each switch has names of its own: of two to one
// generation that share them, the second one's exchange takes back what the first one's did, and both say that they switched.
var isOther = regexp.MustCompile(`^(` + strings.Join(generationTables, "|") + `)_other(_[0-9a-f]+)?$`)

// dropOthers drops the aliases that switches made beside those of readers, also of one that was broken off, or that waits for a
// moment without inserts: that one fails then.
func (s *servers) dropOthers(ctx context.Context) error {
	hosts, err := s.tables(ctx)
	if err != nil {
		return err
	}
	for i, tables := range hosts {
		for table := range tables {
			if isOther.MatchString(table) {
				if err := s.hosts[i].exec(ctx, dropTable(table)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// whole returns an error unless a host has all tables and views of a generation: one that Drop was ending is fed no more.
func whole(on Cluster, tables map[string]string, generation int) error {
	for _, table := range generationTables {
		name := of(table, generation)
		for _, part := range []string{name, on.local(name), "mv_" + name} {
			if _, made := tables[part]; !made {
				return fmt.Errorf("generation %d has no %s: it is not wholly made, or not wholly ended. Go on with it, or end it with --drop", generation, part)
			}
		}
	}
	return nil
}

// Drop drops the views first, at every host, so that no insert begins that would miss their tables. One that has begun is
// refused, and is made again by whoever writes.
//
// Where a switch to the generation was broken off, readers that are answered from it already are switched back first; but not
// if it is the older one, to which somebody was going back.
func (g *Generations) Drop(ctx context.Context, generation int) error {
	_, live, err := g.List(ctx)
	if err != nil {
		return err
	}
	if generation == live {
		return fmt.Errorf("generation %d is the one that is asked", generation)
	}
	s, err := g.at(ctx)
	if err != nil {
		return err
	}
	asked, err := s.asked(ctx, generation)
	if err != nil {
		return err
	}
	if asked && generation < live {
		return fmt.Errorf("some readers are answered from generation %d already, because a switch to it was broken off: finish that (lotline rebuild --rollback) before either is ended", generation)
	}
	if asked {
		if err := g.Switch(ctx, live); err != nil {
			return fmt.Errorf("switch readers back to generation %d: %w", live, err)
		}
	}
	if err := s.dropOthers(ctx); err != nil { // or one that was broken off would have an alias stand for nothing
		return err
	}
	for _, step := range drops(s.Cluster, generation) {
		if err := s.exec(ctx, step...); err != nil {
			return err
		}
	}
	return nil
}

// asked reports whether readers at some host are answered from a generation, be it by one alias.
func (s *servers) asked(ctx context.Context, generation int) (bool, error) {
	hosts, err := s.tables(ctx)
	if err != nil {
		return false, err
	}
	for _, tables := range hosts {
		for _, alias := range generationTables {
			if strings.HasSuffix(tables[alias], "'"+of(alias, generation)+"')") {
				return true, nil
			}
		}
	}
	return false, nil
}

// drops returns what ends a generation, in steps of which each is to be done at every host before the next.
func drops(on Cluster, generation int) (steps [][]string) {
	var views, tables []string
	for _, table := range generationTables {
		views = append(views, "DROP VIEW IF EXISTS mv_"+of(table, generation)+" SYNC")
		tables = append(tables, dropTable(of(table, generation)))
	}
	kept := of(marks, generation)
	if on.Cluster == "" {
		return [][]string{views, tables, {dropTable(kept)}}
	}
	// A host may be away for long in between, so a rebuild that comes first must not take for filled what is not.
	steps = [][]string{{"TRUNCATE TABLE IF EXISTS " + on.local(kept) + " SYNC"}, views, tables, nil, {dropTable(kept)}, {dropTable(on.local(kept))}}
	for _, table := range generationTables {
		steps[3] = append(steps[3], dropTable(on.local(of(table, generation))))
	}
	return steps
}

func dropTable(table string) string { return "DROP TABLE IF EXISTS " + table + " SYNC" }
