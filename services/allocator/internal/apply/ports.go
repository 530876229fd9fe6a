// Package apply is the allocator's use case: commands of one partition become state, and events that wait in the
// outbox, in one store transaction.
//
// It may import the standard library, the domain (allocation) and the outbox's form, nothing else: the store and the
// wire are ports that it declares here and that adapters fill. The commands log (commandlog) calls it.
package apply

import (
	"context"
	"errors"
	"time"

	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// ErrRefused is returned by Session.Commit when a compare-and-set did not hold: another allocator moved the partition
// or one of the SKUs, or is about to create one; or something is stored that a Write presumes not to be. Session.Load returns it too, in a locked session, for a SKU that another
// created since the others were locked. Nothing was written.
var ErrRefused = errors.New("refused: the partition or a SKU was changed by another allocator")

// ErrBroken is returned by Session.Commit when the store's own checks refuse rows that the decision made: a batch would
// be oversold, a key doubled. It is the last line of defence; trying again will not help.
var ErrBroken = errors.New("the stored rows contradict the decision")

// ErrDiffers is returned by ApplyAgain when a command is decided otherwise than it was before.
var ErrDiffers = errors.New("decided otherwise than it was published before the database was restored")

// Check finds the first command in segments that is known to have been decided otherwise.
type Check func(segments []outbox.Segment) (offset int64, differs bool, err error)

// Store keeps the state. It is not for concurrent use. Any error other than ErrRefused leaves the outcome of a Commit unknown; the caller
// must then forget what it holds and read again.
type Store interface {
	Session
	// Connect connects, unless there is a connection already, and returns when that was made. What was read over older ones is not to
	// be used over it: behind it may be a database restored from a backup, in which the same version of a SKU has other content.
	Connect(ctx context.Context) (made time.Time, err error)
	// Locked runs fn in one transaction that holds the partition's row and, in key order, the rows of those SKUs,
	// so that no other allocator can change them before fn's Commit; the context it passes bounds all of it. It returns ErrRefused if the partition's
	// next offset is not from, or not of that topic.
	Locked(ctx context.Context, topicID string, partition int32, from int64, skus []string, fn func(context.Context, Session) error) error
}

// Session loads what a chunk of commands needs, and writes what it decided.
type Session interface {
	Load(ctx context.Context, need Need) (Loaded, error)
	// Commit writes all of it or nothing. Several writes are of different partitions, and have no SKU in common.
	Commit(ctx context.Context, writes ...Write) error
}

// Need names the rows that a chunk of commands can touch.
type Need struct {
	Products []string // SKUs to load whole: version and open batches
	Lines    []LineKey
	Batches  []BatchKey
	Seen     []SeenKey
	Cuts     []Cut
}

// LineKey names an order line.
type LineKey struct{ SKU, OrderID string }

// BatchKey names a batch.
type BatchKey struct{ SKU, Ref string }

// SeenKey names a command whose repeats must be recognised.
type SeenKey struct {
	SKU     string
	Command allocation.CommandID
}

// Cut asks for the newest lines of a batch: enough of them that the rest fits into Qty, at the most LinesMax.
type Cut struct {
	BatchKey
	Qty      int32 // the least quantity that the chunk asks for
	LinesMax int
}

// add is both needs at once.
func (n *Need) add(other Need) {
	n.Products, n.Lines = append(n.Products, other.Products...), append(n.Lines, other.Lines...)
	n.Batches, n.Seen, n.Cuts = append(n.Batches, other.Batches...), append(n.Seen, other.Seen...), append(n.Cuts, other.Cuts...)
}

// Loaded is what the store has of a Need. Unknown SKUs have no product.
type Loaded struct {
	Products []Row
	Facts    map[string]allocation.Facts // by SKU
}

// Row is a product's stored state.
type Row struct {
	SKU     string
	Version uint64
	By      allocation.Position // the command that made the version; Partition is -1 if that is not known
	Open    []allocation.Batch
}

// Write is everything that one chunk decided for one partition; it is written whole or not at all.
type Write struct {
	TopicID    string // of the commands topic that the offsets are of; the write is refused if the partition's row is of another
	Partition  int32
	From, Next int64 // compare-and-set of the partition's next offset
	Products   []Moved
	Changes    []Changed
	Segments   []outbox.Segment
	// Presumed is what was decided without asking whether it is there; nil if everything was asked for. The write is refused if any of
	// it is stored, or one of the new lines in Changes.
	Presumed *Presumed
	// DependsOn is what has to be published before any of Segments: events of other partitions' commands, below an
	// offset each. The write is refused if one of them is not applied up to there.
	DependsOn map[int32]int64
}

// Presumed names what must not be stored for a decision to be right.
type Presumed struct {
	Lines []LineKey // but for those that the write itself inserts
	Seen  []SeenKey
}

// Moved is the compare-and-set of one SKU's version, in order of SKU. Old == New checks a SKU that was only read,
// and writes its row anew for it; Old == 0 expects that the SKU does not exist.
type Moved struct {
	SKU       string
	Old, New  uint64
	Available int64
	Offset    int64 // of the command that made version New, if it is not Old
}

// Changed holds the rows of one SKU to insert and to update.
type Changed struct {
	SKU string
	allocation.Changes
}

// Encoder is the wire that events are decided into.
type Encoder struct {
	ContentType []byte // stored with the events; empty is the wire's own default
	// Append appends the wire's bytes of one event of command c to dst and names its type on the wire. It is pure.
	Append func(dst []byte, c *allocation.Command, e *allocation.Event) (data []byte, kind uint8)
}
