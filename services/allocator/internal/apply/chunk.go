package apply

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// chunk is a run of consecutive commands of one partition that is decided and committed together. It starts as all
// that is left of a poll and may end earlier.
type chunk struct {
	topicID    string
	partition  int32
	from, next int64
	in         []Input
	check      Check // nil: nothing is known of its commands

	skus     []string // of its commands, sorted
	need     Need
	presumed *Presumed // nil: everything is asked for
	products map[string]*held

	write       Write
	decided     int
	eventCount  uint64
	deadLetters uint64
}

// held is a product and who made its version.
//
// Another partition may have: then that partition's events have to be published before those that go on from there, or a
// consumer would see the SKU's versions out of order. Who made the version is exact as long as the version is, and that
// is compared when the chunk is committed.
type held struct {
	allocation.Product

	by   allocation.Position // the command that made the settled version; Partition is -1 if that is not known
	last int64               // offset of the chunk's last command that made a version

	prev, next *held // in the cache; nil = it is not there
}

func (p *held) decide(in *Input, dst []allocation.Event) ([]allocation.Event, error) {
	before := p.Version
	dst, err := p.Decide(in.Command, dst)
	if p.Version != before {
		p.last = in.Offset
	}
	return dst, err
}

// settle ends the chunk, which was committed for the partition.
func (p *held) settle(partition int32) {
	if p.Dirty() {
		p.by = allocation.Position{Partition: partition, Offset: p.last}
	}
	p.last = 0
	p.Settle()
}

// reset makes the chunk ready for another attempt: whatever the first one decided was refused. It may have ended
// early, which stays: the rest follows in the next chunk.
func (c *chunk) reset() {
	*c = chunk{topicID: c.topicID, partition: c.partition, from: c.from, next: c.next, in: c.in, check: c.check}
}

// segments are what the chunk decided, with what each depends on, and how many bytes they have.
func (c *chunk) segments() (segments []outbox.Segment, bytes int) {
	for _, segment := range c.write.Segments {
		segment.DependsOn = c.write.DependsOn
		bytes += len(segment.Data)
		segments = append(segments, segment)
	}
	return segments, bytes
}

// compare holds what is decided against what is known of the commands.
func (c *chunk) compare() error {
	if c.check == nil {
		return nil
	}
	offset, differs, err := c.check(c.write.Segments)
	if err != nil {
		return fmt.Errorf("compare with what was published: %w", err)
	}
	if at := c.before(offset); differs && at < len(c.in) {
		return &difference{offset: offset, sku: c.in[at].Command.SKU}
	}
	return nil
}

// before counts the chunk's commands below an offset.
func (c *chunk) before(offset int64) int {
	return sort.Search(len(c.in), func(i int) bool { return c.in[i].Offset >= offset })
}

// endBeforeDifference ends the chunk before the command that an error says is decided otherwise, if there are any before it.
// They are those that came before in the order of then too. What lies between them and that command may be about to come
// over another partition.
func (c *chunk) endBeforeDifference(err error) bool {
	var d *difference
	if !errors.As(err, &d) {
		return false
	}
	n := c.before(d.offset)
	if n > 0 {
		c.next, c.in = d.offset, c.in[:n]
	}
	return n > 0
}

// difference is an ErrDiffers, and where it is.
type difference struct {
	offset int64
	sku    string
}

func (d *difference) Error() string {
	return fmt.Sprintf("the command at offset %d (SKU %s) is %s", d.offset, d.sku, ErrDiffers)
}

func (d *difference) Is(target error) bool { return target == ErrDiffers }

// plan names what the chunk's commands need. Products that the cache holds are not loaded again.
//
// Nearly all commands allocate a line that was never there before, so nothing is found by asking for it. Where that may be
// presumed, it is not asked for, and the commit is refused if it is wrong: the index in which the new line is looked for is the
// one that it goes into.
//
// The lines of cuts are what makes a load large, so they are bounded together: the first cut gets all the lines that
// a decision can ever need, the others share a second such budget. A cut that finds too few ends the chunk and is
// the first of the next one.
func (c *chunk) plan(cached func(string) bool, cutLinesMax int, presume bool) {
	c.products = make(map[string]*held)
	// Nearly all commands allocate, and carry an id.
	lines, seen := make([]LineKey, 0, len(c.in)), make([]SeenKey, 0, len(c.in))
	if presume {
		c.presumed = &Presumed{Lines: lines, Seen: seen}
	} else {
		c.need.Lines, c.need.Seen = lines, seen
	}
	named := make(map[string]bool)
	cuts := make(map[BatchKey]int)
	for i := range c.in {
		if c.in[i].DeadLetter != "" {
			continue
		}
		cmd := &c.in[i].Command
		if !named[cmd.SKU] {
			named[cmd.SKU] = true
			c.skus = append(c.skus, cmd.SKU)
			if !cached(cmd.SKU) {
				c.need.Products = append(c.need.Products, cmd.SKU)
			}
		}
		lines, seen := &c.need.Lines, &c.need.Seen
		if presume && cmd.Kind == allocation.Allocate {
			lines, seen = &c.presumed.Lines, &c.presumed.Seen
		}
		if cmd.ID.Given() {
			*seen = append(*seen, SeenKey{SKU: cmd.SKU, Command: cmd.ID})
		}
		switch cmd.Kind {
		case allocation.Allocate, allocation.Deallocate:
			*lines = append(*lines, LineKey{SKU: cmd.SKU, OrderID: cmd.OrderID})
		case allocation.CreateBatch:
			c.need.Batches = append(c.need.Batches, BatchKey{SKU: cmd.SKU, Ref: cmd.Ref})
		case allocation.ChangeBatchQuantity:
			key := BatchKey{SKU: cmd.SKU, Ref: cmd.Ref}
			c.need.Batches = append(c.need.Batches, key)
			if at, again := cuts[key]; again {
				c.need.Cuts[at].Qty = min(c.need.Cuts[at].Qty, cmd.Qty)
				continue
			}
			cuts[key] = len(c.need.Cuts)
			c.need.Cuts = append(c.need.Cuts, Cut{BatchKey: key, Qty: cmd.Qty})
		}
	}
	for i := range c.need.Cuts {
		c.need.Cuts[i].LinesMax = cutLinesMax + 1
		if i > 0 {
			c.need.Cuts[i].LinesMax = cutLinesMax/len(c.need.Cuts) + 1
		}
	}
	slices.Sort(c.skus)
}

// collect gathers what the decided products have to write, in key order: rows are always locked in that order, so
// two allocators that share SKUs cannot deadlock.
func (c *chunk) collect() {
	c.write.TopicID, c.write.Partition, c.write.From = c.topicID, c.partition, c.from
	if c.presumed != nil {
		c.write.Presumed = &Presumed{Seen: c.presumed.Seen, Lines: slices.DeleteFunc(c.presumed.Lines, func(k LineKey) bool {
			return c.products[k.SKU].Knows(k.OrderID)
		})}
	}
	c.write.Products, c.write.Changes = make([]Moved, 0, len(c.skus)), make([]Changed, 0, len(c.skus))
	for _, sku := range c.skus {
		p := c.products[sku]
		c.write.Products = append(c.write.Products, Moved{SKU: sku, Old: p.SettledVersion(), New: p.Version, Available: p.Available, Offset: p.last})
		if p.by.Partition >= 0 && p.by.Partition != c.partition {
			if c.write.DependsOn == nil {
				c.write.DependsOn = make(map[int32]int64)
			}
			c.write.DependsOn[p.by.Partition] = max(c.write.DependsOn[p.by.Partition], p.by.Offset+1)
		}
		if p.Dirty() {
			c.write.Changes = append(c.write.Changes, Changed{SKU: sku, Changes: p.Changes()})
		}
	}
}
