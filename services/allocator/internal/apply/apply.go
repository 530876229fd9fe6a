package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// Input is one record of the commands topic: a command, or the reason why it cannot be read.
type Input struct {
	Offset     int64
	Time       time.Time // broker's append time
	Command    allocation.Command
	DeadLetter string         // not "" if the record could not be read; Command is then unset
	Headers    outbox.Headers // what its events carry on; no decision depends on them
}

// Limits bound what an Applier holds and does.
type Limits struct {
	allocation.Limits
	ProductsCachedMax int // SKUs kept between polls; the least recently used leave first
	SegmentBytesMax   int // an outbox row is closed once it has this many bytes
}

// Counters count what an Applier did since it was made. They are read between calls of Apply.
type Counters struct {
	Commands    uint64
	Events      uint64
	DeadLetters uint64
	Refusals    uint64 // optimistic commits that were refused and decided again
	Locked      uint64 // chunks committed with their SKUs locked: refused ones, and those with SKUs that were shared lately
}

// Applier decides commands and commits what they change. It is not for concurrent use: each lane of a worker has
// its own, with its own Store. What it knows may have been read over the Store of another (see Together).
type Applier struct {
	store     Store
	encode    Encoder
	limits    Limits
	products  *cache
	forgotten time.Time                   // when products were last forgotten: all that is there was read since
	shared    *simplelru.LRU[string, int] // SKUs that another partition changed, and for how many chunks more that counts
	presuming presuming
	scratch   []byte
	segment   outbox.Builder // grown anew each time, segments would be the most of what an applier leaves to the collector
	eventsMax uint64

	keptBytesMax int
	events       []allocation.Event
	Counters     Counters
}

// lockedTriesMax bounds the locked second try. Locked, a chunk can be refused only because a SKU that was not there to be
// locked, or that is cached as unknown, was created meanwhile, and each SKU is created once and locked with the next try; or
// because another was creating one for so long that it was not waited for.
const lockedTriesMax = 16

// sharedFor is for how many chunks a SKU counts as shared after another partition changed it.
const sharedFor = 8

// chunkEventsMax ends a chunk: a poll of large cuts can decide far more events than it has commands, and memory and the
// transaction must stay bounded. One command is never divided.
const chunkEventsMax = 200_000

// keptBytesMax bounds the decided bytes of one poll that are handed back instead of being left in the outbox.
const keptBytesMax = 64 << 20

// New makes an Applier with an empty cache. The limits must be positive.
func New(store Store, encode Encoder, limits Limits) (*Applier, error) {
	shared, err := simplelru.NewLRU[string, int](limits.ProductsCachedMax, nil)
	if err != nil {
		return nil, fmt.Errorf("make a cache of %d SKUs: %w", limits.ProductsCachedMax, err)
	}
	return &Applier{store: store, encode: encode, limits: limits, products: newCache(limits.ProductsCachedMax), shared: shared, eventsMax: chunkEventsMax, keptBytesMax: keptBytesMax}, nil
}

// Forget drops every cached SKU. What is cached is true only as long as no commit has an unknown outcome.
func (a *Applier) Forget() {
	a.products.Purge()
	a.forgotten = time.Now()
}

// over drops every cached SKU unless all of them were read since the store's connection was made. That they were read over this one
// does not matter:
//
//	S is read at version 5 over a connection; Postgres is restored from a backup, which ends all connections; S is decided again, with
//	another outcome, and is at version 5 again
//	over a new connection the compare-and-set of version 5 would hold for what is gone
//	over one that is older than what was read, and so was there before the restore, nothing can be committed any more
func (a *Applier) over(ctx context.Context, store Store) error {
	made, err := store.Connect(ctx)
	if err == nil && !a.forgotten.After(made) {
		a.Forget()
	}
	return err
}

// Apply decides the inputs of [from, next) of a partition of the topic with that id, in order, and commits them. It returns the segments that
// are now in the outbox, in order; or none, if they are so large that they are better read from there in parts.
//
// ErrRefused means that the partition's next offset is not from, or not of that topic: another allocator owns it, or an earlier commit of
// unknown outcome did happen. After any error the caller reads the next offset again; chunks that were committed
// before the error are in the outbox and are found there.
func (a *Applier) Apply(ctx context.Context, topicID string, partition int32, from, next int64, in []Input) ([]outbox.Segment, error) {
	return a.ApplyAgain(ctx, topicID, partition, from, next, in, nil)
}

// ApplyAgain is Apply for commands that were decided before the store was restored from a backup. What differs from then, as
// check finds, is not committed: with ErrDiffers everything before that command is.
func (a *Applier) ApplyAgain(ctx context.Context, topicID string, partition int32, from, next int64, in []Input, check Check) ([]outbox.Segment, error) {
	var segments []outbox.Segment
	bytes := 0
	for from < next {
		c := &chunk{topicID: topicID, partition: partition, from: from, next: next, in: in, check: check}
		if err := a.commit(ctx, c); err != nil {
			a.Forget()
			return nil, fmt.Errorf("apply commands %d@%d..%d: %w", partition, from, next, err)
		}
		decided, size := c.segments()
		segments, bytes = append(segments, decided...), bytes+size
		if bytes > a.keptBytesMax {
			segments = nil
		}
		a.count(c)
		from, in = c.next, in[c.decided:]
	}
	if bytes > a.keptBytesMax {
		return nil, nil
	}
	return segments, nil
}

func (a *Applier) count(c *chunk) {
	a.Counters.Commands += uint64(c.decided)
	a.Counters.Events += c.eventCount
	a.Counters.DeadLetters += c.deadLetters
}

// commit takes a chunk through: optimistically from the cache first, and if a SKU turns out to have been changed by
// another allocator, once more with the SKUs locked; at once with the SKUs locked if one of them was shared lately.
//
// The sequence that needs the lock: allocators A and B own two partitions that share SKU X (a producer with another
// partitioner). A reads X at version 5, B reads X at version 5, A commits 6, B is refused, B reads 6, A commits 7, B
// is refused again: with a busy A, B never gets through. Holding X's row from before the read ends the race.
func (a *Applier) commit(ctx context.Context, c *chunk) error {
	if err := a.over(ctx, a.store); err != nil {
		return err
	}
	cached, lock := a.products.Get, a.sharedLately(c)
	c.plan(a.products.Contains, a.limits.CutLinesMax, false)
	for try := 0; ; try++ {
		ours := true
		var err error
		if lock {
			ours, err = a.attemptLocked(ctx, c, cached)
		} else {
			err = a.attempt(ctx, a.store, c, cached)
		}
		if err == nil {
			break
		}
		if try == 0 && contradictory(err) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		switch shorter := try > 0 && c.endBeforeDifference(err); {
		case try == lockedTriesMax, !shorter && (!errors.Is(err, ErrRefused) || !ours):
			return err
		case !shorter:
			a.Counters.Refusals++
		}
		for _, sku := range c.skus {
			a.products.Remove(sku)
		}
		c.reset()
		c.plan(a.products.Contains, a.limits.CutLinesMax, false)
		lock = true
	}
	a.keep(c)
	return nil
}

// keep caches the products of a chunk that was committed.
func (a *Applier) keep(c *chunk) {
	for sku, p := range c.products {
		shared := a.noteShared(sku, p.by.Partition >= 0 && p.by.Partition != c.partition)
		p.settle(c.partition)
		if shared {
			a.products.Remove(sku)
		} else {
			a.products.Add(p)
		}
	}
}

// attemptLocked is attempt with the SKUs locked from before anything is read. The partition is not ours any more if it
// was refused before that.
func (a *Applier) attemptLocked(ctx context.Context, c *chunk, cached func(string) *held) (ours bool, err error) {
	err = a.store.Locked(ctx, c.topicID, c.partition, c.from, c.skus, func(ctx context.Context, s Session) error {
		ours = true
		return a.attempt(ctx, s, c, cached)
	})
	if err == nil {
		a.Counters.Locked++
	}
	return ours, err
}

// sharedLately says whether a SKU of the chunk was shared lately: then its cached version is probably old, and whoever changes
// it would probably come between load and commit again.
func (a *Applier) sharedLately(c *chunk) bool {
	return a.shared.Len() > 0 && slices.ContainsFunc(c.in, func(in Input) bool { return in.DeadLetter == "" && a.shared.Contains(in.Command.SKU) })
}

// noteShared says whether a SKU counts as shared from now on, and counts down to when one that nobody else has changed is
// this partition's own again.
func (a *Applier) noteShared(sku string, foreign bool) bool {
	left, known := a.shared.Get(sku)
	switch {
	case foreign:
		left = sharedFor
	case !known:
		return false
	default:
		left--
	}
	if left == 0 {
		a.shared.Remove(sku)
		return false
	}
	a.shared.Add(sku, left)
	return true
}

// contradictory reports whether the domain met rows that do not fit together, or not to what was published. Without a lock
// they may be of different moments, the cached ones older than those just loaded: that is what the commit would have been
// refused for.
func contradictory(err error) bool {
	return errors.Is(err, allocation.ErrInconsistent) || errors.Is(err, allocation.ErrMoreLinesNeeded) || errors.Is(err, ErrDiffers)
}

// attempt loads, decides and commits the chunk through one session.
func (a *Applier) attempt(ctx context.Context, s Session, c *chunk, cached func(string) *held) error {
	loaded, err := s.Load(ctx, c.need)
	if err != nil {
		return fmt.Errorf("load what they need: %w", err)
	}
	for _, row := range loaded.Products {
		c.products[row.SKU] = a.stored(row)
	}
	if err := a.decideFrom(c, loaded.Facts, cached); err != nil {
		return err
	}
	return s.Commit(ctx, c.write)
}

func (a *Applier) stored(row Row) *held {
	return &held{Product: *allocation.NewProduct(row.SKU, row.Version, row.Open, &a.limits.Limits), by: row.By}
}

// decideFrom decides the chunk, whose products are those that were loaded; the others are cached, or unknown.
func (a *Applier) decideFrom(c *chunk, facts map[string]allocation.Facts, cached func(string) *held) error {
	for _, sku := range c.skus {
		p := c.products[sku]
		if p == nil {
			if p = cached(sku); p == nil {
				p = a.stored(Row{SKU: sku, By: allocation.Position{Partition: -1}})
			}
			c.products[sku] = p
		}
		p.Learn(facts[sku])
	}
	if err := a.decide(c); err != nil {
		return err
	}
	if err := c.compare(); err != nil {
		return err
	}
	c.collect()
	return nil
}

// decide runs the chunk's commands through the domain and writes what they became into segments. It ends the chunk
// early, at a command boundary, where a cut needs more lines than were loaded or there are very many events: division
// changes no event.
func (a *Applier) decide(c *chunk) error {
	b := &a.segment
	b.Reset(c.from)
	for i := range c.in {
		in := &c.in[i]
		if in.DeadLetter != "" {
			b.DeadLetter(in.Offset, in.Time, in.DeadLetter)
			c.deadLetters++
			c.decided++
		} else {
			var err error
			a.events, err = c.products[in.Command.SKU].decide(in, a.events[:0])
			if errors.Is(err, allocation.ErrMoreLinesNeeded) && i > 0 {
				c.next, c.in = in.Offset, c.in[:i]
				break
			}
			if err != nil {
				return fmt.Errorf("decide the command at %d: %w", in.Offset, err)
			}
			a.record(b, in)
			c.eventCount += uint64(len(a.events))
			c.decided++
			if c.eventCount >= a.eventsMax {
				c.next, c.in = in.Offset+1, c.in[:i+1]
				break
			}
		}
		if b.Size() >= a.limits.SegmentBytesMax {
			c.write.Segments = append(c.write.Segments, b.Segment(in.Offset+1))
			b.Reset(in.Offset + 1)
		}
	}
	if last := b.Segment(c.next); last.First < c.next {
		c.write.Segments = append(c.write.Segments, last)
	}
	c.write.Next = c.next
	return nil
}

func (a *Applier) record(b *outbox.Builder, in *Input) {
	headers := in.Headers
	headers.ContentType = a.encode.ContentType
	b.Begin(in.Offset, in.Time, len(a.events), headers)
	for i := range a.events {
		var kind uint8
		a.scratch, kind = a.encode.Append(a.scratch[:0], &in.Command, &a.events[i])
		b.Message(kind, a.events[i].SKU, a.scratch)
	}
}
