package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

var errLost = errors.New("the connection was lost")

// product is all that the fake store has of a SKU.
type product struct {
	version   uint64
	available int64
	by        allocation.Position
	batches   map[string]allocation.Batch
	lines     map[string]allocation.Line
	seen      map[allocation.CommandID]allocation.Seen
}

// fakeStore is a Store in memory that does on demand what a real one does by bad luck. Several Appliers may share it, each
// call is atomic.
type fakeStore struct {
	products map[string]*product
	topicID  string
	next     map[int32]int64
	outbox   map[int32][]outbox.Segment

	beforeCommit func(locked bool)        // another allocator, between load and commit
	refuseNext   bool                     // the next commit
	fate         func() (lost, done bool) // of a commit: its answer is lost, and whether it happened
	commits      []Write                  // that happened
	transactions int                      // that happened
	needs        []Need
	locks        [][]string
	made         time.Time // its connection
}

func (f *fakeStore) Connect(context.Context) (made time.Time, err error) { return f.made, nil }

func newFakeStore() *fakeStore {
	return &fakeStore{topicID: "topic", products: map[string]*product{}, next: map[int32]int64{}, outbox: map[int32][]outbox.Segment{}}
}

func (f *fakeStore) NextOffset(_ context.Context, partition int32) (int64, error) {
	return f.next[partition], nil
}

func (f *fakeStore) Load(_ context.Context, need Need) (Loaded, error) {
	f.needs = append(f.needs, need)
	got := Loaded{Facts: map[string]allocation.Facts{}}
	of := func(sku string, add func(*product, *allocation.Facts)) {
		if p := f.products[sku]; p != nil {
			facts := got.Facts[sku]
			add(p, &facts)
			got.Facts[sku] = facts
		}
	}
	for _, sku := range need.Products {
		of(sku, func(p *product, _ *allocation.Facts) {
			row := Row{SKU: sku, Version: p.version, By: p.by}
			for _, b := range p.batches {
				if b.Available > 0 {
					row.Open = append(row.Open, b)
				}
			}
			got.Products = append(got.Products, row)
		})
	}
	for _, k := range need.Lines {
		of(k.SKU, func(p *product, facts *allocation.Facts) {
			if l, ok := p.lines[k.OrderID]; ok {
				facts.Lines = append(facts.Lines, l)
				if b, ok := p.batches[l.BatchRef]; ok {
					facts.Batches = append(facts.Batches, b)
				}
			}
		})
	}
	for _, k := range need.Batches {
		of(k.SKU, func(p *product, facts *allocation.Facts) {
			if b, ok := p.batches[k.Ref]; ok {
				facts.Batches = append(facts.Batches, b)
			}
		})
	}
	for _, k := range need.Seen {
		of(k.SKU, func(p *product, facts *allocation.Facts) {
			if s, ok := p.seen[k.Command]; ok {
				facts.Seen = append(facts.Seen, s)
			}
		})
	}
	for _, c := range need.Cuts {
		of(c.SKU, func(p *product, facts *allocation.Facts) {
			if facts.Newest == nil {
				facts.Newest = map[string]allocation.NewestLines{}
			}
			facts.Newest[c.Ref] = p.newest(c)
		})
	}
	return got, nil
}

// newest are the lines that a cut needs, by the rules that the real store is held to.
func (p *product) newest(c Cut) (n allocation.NewestLines) {
	for _, l := range p.lines {
		if l.BatchRef == c.Ref {
			n.Lines = append(n.Lines, l)
		}
	}
	slices.SortFunc(n.Lines, func(a, b allocation.Line) int { return int(b.AllocatedVersion) - int(a.AllocatedVersion) })
	excess := int64(p.batches[c.Ref].Qty) - int64(p.batches[c.Ref].Available) - int64(c.Qty)
	n.Lines = n.Lines[:max(0, min(int64(len(n.Lines)), int64(c.LinesMax), excess))]
	var sum int64
	for _, l := range n.Lines {
		sum += int64(l.Qty)
	}
	n.Complete = sum >= excess || len(n.Lines) < c.LinesMax
	return n
}

func (f *fakeStore) Commit(_ context.Context, writes ...Write) error {
	return f.commit(false, writes...)
}

func (f *fakeStore) commit(locked bool, writes ...Write) error {
	if f.beforeCommit != nil {
		f.beforeCommit(locked)
	}
	if f.refuseNext {
		f.refuseNext = false
		return ErrRefused
	}
	lost, done := false, true
	if f.fate != nil {
		lost, done = f.fate()
	}
	if !done {
		return errLost
	}
	for _, w := range writes {
		if err := f.check(w); err != nil {
			return err
		}
	}
	for _, w := range writes {
		f.write(w)
	}
	f.transactions++
	if lost {
		f.made = time.Now() // the next one
		return errLost
	}
	return nil
}

// check says what is in the way of a write.
func (f *fakeStore) check(w Write) error {
	if w.TopicID != f.topicID || f.next[w.Partition] != w.From {
		return ErrRefused
	}
	for _, m := range w.Products {
		if version := f.version(m.SKU); version != m.Old {
			return ErrRefused
		}
	}
	for partition, below := range w.DependsOn {
		if f.next[partition] < below {
			return ErrRefused
		}
	}
	if w.Presumed != nil && !f.absent(w) {
		return ErrRefused
	}
	for _, c := range w.Changes {
		if !f.fits(c) {
			return fmt.Errorf("%w: %+v in %+v", ErrBroken, c, f.products[c.SKU])
		}
	}
	return nil
}

func (f *fakeStore) write(w Write) {
	f.next[w.Partition] = w.Next
	f.outbox[w.Partition] = append(f.outbox[w.Partition], w.Segments...)
	for _, m := range w.Products {
		if m.New != m.Old {
			p := f.product(m.SKU)
			p.version, p.available, p.by = m.New, m.Available, allocation.Position{Partition: w.Partition, Offset: m.Offset}
		}
	}
	for _, c := range w.Changes {
		p := f.product(c.SKU)
		for _, b := range slices.Concat(c.NewBatches, c.Batches) {
			p.batches[b.Ref] = b
		}
		for _, l := range slices.Concat(c.NewLines, c.Lines) {
			p.lines[l.OrderID] = l
		}
		for _, s := range c.Seen {
			p.seen[s.Command] = s
		}
	}
	f.commits = append(f.commits, w)
}

// absent says whether what a write presumes not to be there is not.
func (f *fakeStore) absent(w Write) bool {
	line := func(sku, order string) bool { p := f.products[sku]; return p != nil && p.lines[order].OrderID != "" }
	for _, c := range w.Changes {
		if slices.ContainsFunc(c.NewLines, func(l allocation.Line) bool { return line(c.SKU, l.OrderID) }) {
			return false
		}
	}
	return !slices.ContainsFunc(w.Presumed.Lines, func(k LineKey) bool { return line(k.SKU, k.OrderID) }) &&
		!slices.ContainsFunc(w.Presumed.Seen, func(k SeenKey) bool {
			p := f.products[k.SKU]
			_, ok := map[allocation.CommandID]allocation.Seen(nil)[k.Command]
			if p != nil {
				_, ok = p.seen[k.Command]
			}
			return ok
		})
}

// fits says whether the rows that are said to be new are, and the others are there.
func (f *fakeStore) fits(c Changed) bool {
	var p product
	if stored := f.products[c.SKU]; stored != nil {
		p = *stored
	}
	batch := func(b allocation.Batch) bool { _, ok := p.batches[b.Ref]; return ok }
	line := func(l allocation.Line) bool { _, ok := p.lines[l.OrderID]; return ok }
	missing := slices.ContainsFunc(c.Batches, func(b allocation.Batch) bool { return !batch(b) }) ||
		slices.ContainsFunc(c.Lines, func(l allocation.Line) bool { return !line(l) })
	return !missing && !slices.ContainsFunc(c.NewBatches, batch) && !slices.ContainsFunc(c.NewLines, line)
}

func (f *fakeStore) version(sku string) uint64 {
	if p := f.products[sku]; p != nil {
		return p.version
	}
	return 0
}

func (f *fakeStore) product(sku string) *product {
	if f.products[sku] == nil {
		f.products[sku] = &product{
			batches: map[string]allocation.Batch{}, lines: map[string]allocation.Line{}, seen: map[allocation.CommandID]allocation.Seen{},
		}
	}
	return f.products[sku]
}

func (f *fakeStore) Locked(ctx context.Context, topicID string, partition int32, from int64, skus []string, fn func(context.Context, Session) error) error {
	if topicID != f.topicID || f.next[partition] != from {
		return ErrRefused
	}
	f.locks = append(f.locks, skus)
	return fn(ctx, lockedFake{f})
}

type lockedFake struct{ *fakeStore }

func (l lockedFake) Commit(_ context.Context, writes ...Write) error {
	return l.commit(true, writes...)
}

// published are the outbox's messages of a partition by offset, after checking that segments cover [0, next) gaplessly.
func (f *fakeStore) published(t require.TestingT, partition int32) map[int64][]string {
	all := map[int64][]string{}
	covered := int64(0)
	for _, s := range f.outbox[partition] {
		require.Equal(t, covered, s.First, "segments have no gap and no overlap")
		require.Less(t, s.First, s.Next)
		covered = s.Next
		entries, err := s.Entries()
		require.NoError(t, err)
		for _, e := range entries {
			require.NotContains(t, all, e.Offset, "decided twice")
			if e.DeadLetter != "" {
				all[e.Offset] = []string{"dead: " + e.DeadLetter}
			}
			for _, m := range e.Messages {
				all[e.Offset] = append(all[e.Offset], string(m.Value))
			}
		}
	}
	require.Equal(t, f.next[partition], covered)
	return all
}

// rows are the products that exist, for comparison.
func (f *fakeStore) rows() map[string]product {
	rows := map[string]product{}
	for sku, p := range maps.All(f.products) {
		rows[sku] = *p
	}
	return rows
}
