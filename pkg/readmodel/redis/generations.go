package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/internal/underway"
)

const (
	loadConnectionsMax = 8
	// scanKeysMax is about how many keys are read at once.
	scanKeysMax = 1000
	// readRowsMax is how many rows Read hands over at once.
	readRowsMax = 50_000
)

// Generations makes and switches generations of the read model in Redis. It is a readmodel.Generations.
type Generations struct{ writer *Writer } // for its client and its way of writing

var _ readmodel.Generations = (*Generations)(nil)

// NewGenerations returns the generations under a prefix. It connects when it is first used.
func NewGenerations(cfg Config) *Generations {
	return &Generations{&Writer{client: cfg.connect(applyTimeout, loadConnectionsMax), keys: keys{prefix: cfg.Prefix}}}
}

// Name is redis.
func (g *Generations) Name() string { return name }

// Close closes the connections.
func (g *Generations) Close() error { return g.writer.Close() }

// of makes the names of a generation's keys.
func (g *Generations) of(generation int) keys {
	return keys{g.writer.keys.prefix, strconv.Itoa(generation)}
}

// List returns what the list says. Where nothing was ever switched there is none, and the first generation.
func (g *Generations) List(ctx context.Context) (all []int, live int, err error) {
	listed, err := g.writer.client.HKeys(ctx, g.writer.keys.generations()).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("list the generations: %w", err)
	}
	if len(listed) == 0 {
		listed = []string{firstGeneration}
	}
	for _, text := range listed {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, 0, fmt.Errorf("the list of generations has %q, which this build does not write", text)
		}
		all = append(all, n)
	}
	slices.Sort(all)
	text, err := liveOf(g.writer.client.Get(ctx, g.writer.keys.live()))
	if err != nil {
		return nil, 0, err
	}
	if live, err = strconv.Atoi(text); err != nil {
		return nil, 0, fmt.Errorf("the live generation is %q, which this build does not write", text)
	}
	return all, live, nil
}

// Begin notes a generation. Scripts look up which there are when they run, so blocks that begin after it are in the new one.
func (g *Generations) Begin(ctx context.Context, generation int) error {
	if err := beginScript.Run(ctx, g.writer.client, []string{g.writer.keys.generations()}, generation).Err(); err != nil {
		return fmt.Errorf("note generation %d: %w", generation, err)
	}
	return g.Settle(ctx)
}

// Settle waits for the blocks of which a part is written. One that failed half way is among them until it is applied again, or
// for a minute.
func (g *Generations) Settle(ctx context.Context) error {
	return underway.List(g.applying).Settle(ctx)
}

func (g *Generations) applying(ctx context.Context) ([]string, error) {
	now, err := g.writer.client.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("ask Redis for the time: %w", err)
	}
	blocks, err := g.writer.client.ZRangeArgs(ctx, goredis.ZRangeArgs{Key: g.writer.keys.applying(), ByScore: true, Start: now.Unix(), Stop: "+inf"}).Result()
	if err != nil {
		return nil, fmt.Errorf("list the blocks that are being applied: %w", err)
	}
	return blocks, nil
}

// Load writes rows as Apply does, to one generation.
func (g *Generations) Load(ctx context.Context, generation int, rows readmodel.Parts) error {
	return rows(func(part *readmodel.State) error {
		if err := g.writer.run(ctx, strconv.Itoa(generation), "", partsOf(part), 0); err != nil {
			return fmt.Errorf("load %d rows into generation %d: %w", part.Len(), generation, err)
		}
		return nil
	})
}

// Read reads SKUs before order lines, so that what a line says is not older than its SKU. Keys are found by going through all
// that there are; one that Redis hands over twice is there twice.
func (g *Generations) Read(ctx context.Context, generation int, skus []string, each func(*readmodel.State) error) error {
	r := &reading{Generations: g, keys: g.of(generation), part: new(readmodel.State), each: each}
	if skus != nil {
		r.wanted = make(map[string]bool, len(skus))
		names := make([]string, 0, len(skus))
		for _, sku := range skus {
			r.wanted[sku], names = true, append(names, r.keys.sku(sku))
		}
		if err := r.take(ctx, names); err != nil {
			return err
		}
	} else if err := g.scan(ctx, r.keys.sku("*"), func(names []string) error { return r.take(ctx, names) }); err != nil {
		return err
	}
	if err := g.scan(ctx, r.keys.rows()+"[or]*", func(names []string) error { return r.take(ctx, names) }); err != nil { // order, ref
		return err
	}
	return r.part.HandOver(1, each)
}

// scan calls each with the names of keys that match, some at a time.
func (g *Generations) scan(ctx context.Context, pattern string, each func(names []string) error) error {
	for cursor := uint64(0); ; {
		names, next, err := g.writer.client.Scan(ctx, cursor, pattern, scanKeysMax).Result()
		if err != nil {
			return fmt.Errorf("go through the keys %s: %w", pattern, err)
		}
		if err := each(names); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// reading is one Read.
type reading struct {
	*Generations
	keys   keys
	wanted map[string]bool // nil: all SKUs
	part   *readmodel.State
	each   func(*readmodel.State) error
}

func (r *reading) wants(sku string) bool { return r.wanted == nil || r.wanted[sku] }

// take reads some keys, of whichever kind.
func (r *reading) take(ctx context.Context, names []string) error {
	for names := range slices.Chunk(names, scanKeysMax) {
		answers := make([]goredis.Cmder, len(names))
		if _, err := r.writer.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
			for i, name := range names {
				if kind, _ := r.kind(name); kind == "ref" {
					answers[i] = pipe.ZRange(ctx, name, 0, -1)
				} else {
					answers[i] = pipe.HGetAll(ctx, name)
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("read %d keys: %w", len(names), err)
		}
		for i, name := range names {
			if err := r.keep(name, answers[i]); err != nil {
				return err
			}
			if err := r.part.HandOver(readRowsMax, r.each); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reading) kind(name string) (kind, id string) {
	kind, id, _ = strings.Cut(strings.TrimPrefix(name, r.keys.rows()), ":")
	return kind, id
}

func (r *reading) keep(name string, answer goredis.Cmder) error {
	kind, id := r.kind(name)
	if skus, ok := answer.(*goredis.StringSliceCmd); ok {
		for _, sku := range skus.Val() {
			if r.wants(sku) {
				r.part.Refs = append(r.part.Refs, readmodel.RefRow{Ref: id, SKU: sku})
			}
		}
		return nil
	}
	fields := answer.(*goredis.MapStringStringCmd).Val()
	if kind == "order" {
		for sku, text := range fields {
			if !r.wants(sku) {
				continue
			}
			l, err := parseLine(id, sku, text)
			if err != nil {
				return err
			}
			r.part.Lines = append(r.part.Lines, readmodel.LineRow{Line: l})
		}
		return nil
	}
	a, err := parseAvailability(id, fields)
	if err != nil {
		return err
	}
	if _, known := fields[""]; known {
		r.part.SKUs = append(r.part.SKUs, readmodel.SKURow{SKU: id, Version: a.Version, Available: a.Available})
	}
	for _, b := range a.Batches {
		r.part.Batches = append(r.part.Batches, readmodel.BatchRow{SKU: id, Batch: b})
	}
	return nil
}

// Switch has readers answered from a generation, from one moment on.
func (g *Generations) Switch(ctx context.Context, generation int) error {
	if err := switchScript.Run(ctx, g.writer.client, []string{g.writer.keys.generations(), g.writer.keys.live()}, generation).Err(); err != nil {
		return fmt.Errorf("switch to generation %d: %w", generation, err)
	}
	return nil
}

// Drop ends the feeding of a generation at one moment, and then deletes it, the list's word of it last.
func (g *Generations) Drop(ctx context.Context, generation int) error {
	k := g.of(generation)
	if err := endScript.Run(ctx, g.writer.client, []string{k.generations(), k.live(), k.marks()}, generation).Err(); err != nil {
		return fmt.Errorf("end generation %d: %w", generation, err)
	}
	if err := g.scan(ctx, k.rows()+"*", func(names []string) error {
		if len(names) == 0 {
			return nil
		}
		return g.writer.client.Unlink(ctx, names...).Err()
	}); err != nil {
		return fmt.Errorf("delete generation %d: %w", generation, err)
	}
	if err := g.writer.client.HDel(ctx, k.generations(), k.generation).Err(); err != nil {
		return fmt.Errorf("end generation %d: %w", generation, err)
	}
	return nil
}

// Mark keeps the newest value of each name.
func (g *Generations) Mark(ctx context.Context, generation int, name, value string) error {
	if err := g.writer.client.HSet(ctx, g.of(generation).marks(), name, value).Err(); err != nil {
		return fmt.Errorf("mark generation %d with %s: %w", generation, name, err)
	}
	return nil
}

// Marks returns what Mark kept.
func (g *Generations) Marks(ctx context.Context, generation int) (map[string]string, error) {
	kept, err := g.writer.client.HGetAll(ctx, g.of(generation).marks()).Result()
	if err != nil {
		return nil, fmt.Errorf("read the marks of generation %d: %w", generation, err)
	}
	return kept, nil
}
