package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// Part is what one partition has of a poll: the commands of [From, Next), in order.
type Part struct {
	TopicID    string // see Write
	Partition  int32
	From, Next int64
	In         []Input
}

// ErrApart is returned by Together for what must be applied a partition at a time. Nothing was written.
var ErrApart = errors.New("the partitions cannot be applied together")

// Share is what one Applier has of a poll.
type Share struct {
	Applier *Applier
	Parts   []Part
}

// Together decides the parts of all shares, at least one, each with what its Applier knows, and commits them in one transaction of the
// first one's store: two round trips and one commit, however many partitions there are. It returns the segments of each part, as Apply
// does, in the order of the shares.
//
// decided, unless it is nil, is called with those segments before they are committed, so that something can be done with them
// meanwhile that is of no effect before it is ended; its error ends the attempt with nothing written, and if that is an ErrApart,
// for reasons that have nothing to do with what was decided.
//
// It is for what is normal, and tries once. Partitions that have a SKU in common, SKUs that were shared lately and cuts are
// left to Apply (ErrApart), and so is what becomes of any other error: the caller reads the next offsets of all parts again,
// and applies them one by one. Then nothing that is wrong with one partition holds up another.
func Together(ctx context.Context, shares []Share, decided func([][]outbox.Segment) error) ([][]outbox.Segment, error) {
	store := shares[0].Applier.store
	for _, s := range shares {
		if err := s.Applier.over(ctx, store); err != nil {
			return nil, err
		}
	}
	chunks, need, err := planTogether(shares)
	if err != nil {
		return nil, err
	}
	segments, err := attemptTogether(ctx, store, chunks, need, decided)
	if err != nil {
		undo(shares, chunks, err)
		return nil, fmt.Errorf("apply commands of %d partitions: %w", len(chunks), err)
	}
	for _, c := range chunks {
		c.by.keep(c.chunk)
		c.by.count(c.chunk)
	}
	for _, s := range shares {
		s.Applier.presuming.held()
	}
	return segments, nil
}

// planned is a chunk, and who decides it.
type planned struct {
	*chunk
	by *Applier
}

// undo forgets what an attempt that came to nothing has made of the SKUs, or all of them if it is not known what it came to.
func undo(shares []Share, chunks []planned, err error) {
	refused := errors.Is(err, ErrRefused)
	if !refused && !errors.Is(err, ErrApart) {
		for _, s := range shares {
			s.Applier.Forget()
		}
		return
	}
	for _, c := range chunks {
		for _, sku := range c.skus {
			c.by.products.Remove(sku)
		}
	}
	if refused {
		shares[0].Applier.Counters.Refusals++
		for _, s := range shares {
			s.Applier.presuming.refused()
		}
	}
}

// presuming is whether what commands name is presumed not to be there. Each time that a write is refused, what was decided is lost
// with it, so then everything is asked for: for a number of polls that doubles where it goes on, as where a producer repeats much
// of what it sends, and shrinks while it is right.
type presuming struct{ not, pause int }

const (
	notPresumedMin = 16 // polls
	notPresumedMax = 4096
)

func (p *presuming) may() bool {
	p.not = max(0, p.not-1)
	return p.not == 0
}

func (p *presuming) refused() {
	p.pause = min(max(2*p.pause, notPresumedMin), notPresumedMax)
	p.not = p.pause
}

func (p *presuming) held() {
	if p.not == 0 {
		p.pause /= 2
	}
}

// segmentsOf are those that each chunk decided, or none of any if they are better read from the outbox in parts.
func segmentsOf(chunks []planned, bytesMax int) [][]outbox.Segment {
	segments, bytes := make([][]outbox.Segment, len(chunks)), 0
	for i, c := range chunks {
		var size int
		segments[i], size = c.segments()
		bytes += size
	}
	if bytes > bytesMax {
		return make([][]outbox.Segment, len(chunks))
	}
	return segments
}

// planTogether makes a chunk of each part, and names what all of them need.
func planTogether(shares []Share) (chunks []planned, need Need, err error) {
	var skus []string
	for _, s := range shares {
		a := s.Applier
		presume := a.presuming.may()
		for _, p := range s.Parts {
			c := &chunk{topicID: p.TopicID, partition: p.Partition, from: p.From, next: p.Next, in: p.In}
			if a.sharedLately(c) {
				return nil, need, fmt.Errorf("%w: a SKU was shared lately", ErrApart)
			}
			c.plan(a.products.Contains, a.limits.CutLinesMax, presume)
			if len(c.need.Cuts) > 0 {
				return nil, need, fmt.Errorf("%w: a cut may need very many lines", ErrApart)
			}
			need.add(c.need)
			skus = append(skus, c.skus...)
			chunks = append(chunks, planned{c, a})
		}
	}
	slices.Sort(skus)
	if len(slices.Compact(skus)) < len(skus) {
		return nil, need, fmt.Errorf("%w: they have a SKU in common", ErrApart)
	}
	return chunks, need, nil
}

func attemptTogether(ctx context.Context, store Store, chunks []planned, need Need, decided func([][]outbox.Segment) error) ([][]outbox.Segment, error) {
	loaded, err := store.Load(ctx, need)
	if err != nil {
		return nil, fmt.Errorf("load what they need: %w", err)
	}
	rows := make(map[string]Row, len(loaded.Products))
	for _, row := range loaded.Products {
		rows[row.SKU] = row
	}
	writes := make([]Write, len(chunks))
	for i, c := range chunks {
		for _, sku := range c.skus {
			if row, ok := rows[sku]; ok {
				c.products[sku] = c.by.stored(row)
			}
		}
		next := c.next
		if err := c.by.decideFrom(c.chunk, loaded.Facts, c.by.products.Get); err != nil {
			return nil, err
		}
		if c.next < next {
			return nil, fmt.Errorf("%w: they decided very many events", ErrApart)
		}
		writes[i] = c.write
	}
	segments := segmentsOf(chunks, chunks[0].by.keptBytesMax)
	if decided != nil {
		if err := decided(segments); err != nil {
			return nil, err
		}
	}
	return segments, store.Commit(ctx, writes...)
}
