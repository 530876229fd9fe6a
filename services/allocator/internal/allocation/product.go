package allocation

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// ErrMoreLinesNeeded says that a cut reaches below the newest lines that were loaded.
// Nothing changed; the caller commits the chunk so far and starts another with
// this command. It cannot happen to the first command of a chunk.
var ErrMoreLinesNeeded = errors.New("more of the batch's lines are needed")

// ErrInconsistent says that the rows contradict each other (a line's batch is missing, or
// a batch's lines do not add up). Nothing changed; no retry will help.
var ErrInconsistent = errors.New("the rows contradict each other")

// Product is a SKU with its open batches: those with something available. It is
// not safe for concurrent use.
type Product struct {
	SKU       string
	Version   uint64 // of the last event that changed it; 0 = unknown SKU
	Available int64  // in all batches

	limits  *Limits
	batches named[*batch] // open, or known to the chunk
	open    *batch        // the tree of those with something available
	chunk   *chunk        // from Learn to Settle
}

// chunk is what is known until the next Settle.
type chunk struct {
	settled uint64 // the version before it
	lines   named[*line]
	seen    map[CommandID]*seen
	touched []*batch // those with work
}

// see remembers a command. Mostly there is none, so the map is made by the first.
func (c *chunk) see(s *seen) {
	if c.seen == nil {
		c.seen = make(map[CommandID]*seen)
	}
	c.seen[s.Command] = s
}

type line struct {
	Line
	stored  bool // before the chunk
	changed bool
}

func (l *line) name() string { return l.OrderID }

type seen struct {
	Seen
	changed bool
}

// work is what a chunk knows and does of a batch.
type work struct {
	changed  bool
	newest   []*line // the newest last; a line that left since has no batch
	complete bool    // see NewestLines
}

// NewProduct returns the product with its open batches, in any order. A SKU that
// is not stored is version 0 without batches. The limits are the same for as long as there is the product.
func NewProduct(sku string, version uint64, open []Batch, limits *Limits) *Product {
	p := &Product{SKU: sku, Version: version, limits: limits}
	for _, b := range open {
		p.add(b)
	}
	return p
}

// Learn starts a chunk of consecutive commands with the rows that they need. It
// comes before the chunk's first Decide, also if there is nothing to learn.
func (p *Product) Learn(f Facts) {
	p.chunk = &chunk{settled: p.Version}
	for _, b := range f.Batches {
		if p.batches.get(b.Ref) == nil {
			p.work(p.add(b))
		}
	}
	for _, l := range f.Lines {
		p.chunk.lines.put(&line{Line: l, stored: true})
	}
	for _, s := range f.Seen {
		p.chunk.see(&seen{Seen: s})
	}
	for ref, lines := range f.Newest {
		if b := p.batches.get(ref); b != nil {
			p.learnNewest(b, lines)
		}
	}
}

func (p *Product) learnNewest(b *batch, newest NewestLines) {
	w := p.work(b)
	w.complete = newest.Complete
	w.newest = make([]*line, 0, len(newest.Lines))
	for _, row := range slices.Backward(newest.Lines) {
		l := &line{Line: row, stored: true} // in the place of the same line, if a command names it too
		p.chunk.lines.put(l)
		w.newest = append(w.newest, l)
	}
}

// Dirty reports whether the chunk's commands changed the product: if not, there is
// nothing to write.
func (p *Product) Dirty() bool { return p.Version != p.SettledVersion() }

// SettledVersion is the version before the chunk: the one that the stored row
// still has.
func (p *Product) SettledVersion() uint64 {
	if p.chunk == nil {
		return p.Version
	}
	return p.chunk.settled
}

// Knows reports whether the chunk has this order's line: it was told of its row, or made it.
func (p *Product) Knows(orderID string) bool { return p.chunk.lines.get(orderID) != nil }

// Changes returns the rows that the chunk's commands changed.
func (p *Product) Changes() Changes {
	var rows Changes
	for _, b := range p.chunk.touched {
		switch {
		case !b.work.changed:
		case b.CreatedVersion > p.chunk.settled:
			rows.NewBatches = append(rows.NewBatches, b.Batch)
		default:
			rows.Batches = append(rows.Batches, b.Batch)
		}
	}
	for l := range p.chunk.lines.all() {
		switch {
		case !l.changed:
		case l.stored:
			rows.Lines = append(rows.Lines, l.Line)
		default:
			rows.NewLines = append(rows.NewLines, l.Line)
		}
	}
	for _, s := range p.chunk.seen {
		if s.changed {
			rows.Seen = append(rows.Seen, s.Seen)
		}
	}
	for _, batches := range [][]Batch{rows.NewBatches, rows.Batches} {
		slices.SortFunc(batches, func(a, b Batch) int { return strings.Compare(a.Ref, b.Ref) })
	}
	for _, lines := range [][]Line{rows.NewLines, rows.Lines} {
		slices.SortFunc(lines, func(a, b Line) int { return strings.Compare(a.OrderID, b.OrderID) })
	}
	slices.SortFunc(rows.Seen, func(a, b Seen) int {
		return cmp.Or(strings.Compare(a.Command.Source, b.Command.Source), strings.Compare(a.Command.ID, b.Command.ID))
	})
	return rows
}

// Settle ends the chunk, whose changes are committed: the product forgets
// everything but the open batches.
func (p *Product) Settle() {
	for _, b := range p.chunk.touched {
		b.work = nil
		if b.Available > 0 {
			continue
		}
		p.batches.remove(b)
		if b.height > 0 {
			p.open = p.open.remove(b)
		}
	}
	p.chunk = nil
}

// work returns what the chunk knows of b; from now on it knows of b.
func (p *Product) work(b *batch) *work {
	if b.work == nil {
		b.work = &work{}
		p.chunk.touched = append(p.chunk.touched, b)
	}
	return b.work
}

// add makes row one of the product's batches.
func (p *Product) add(row Batch) *batch {
	b := &batch{Batch: row}
	p.batches.put(b)
	p.Available += int64(b.Available)
	if b.Available > 0 {
		p.open = p.open.insert(b)
	}
	return b
}

// supply changes what b has available. A batch that ran out stays in the tree
// until Settle: nothing fits into it.
func (p *Product) supply(b *batch, change int32) {
	b.Available += change
	p.Available += int64(change)
	p.work(b).changed = true
	if b.height > 0 {
		p.open.refresh(b)
	} else if b.Available > 0 {
		p.open = p.open.insert(b)
	}
}
