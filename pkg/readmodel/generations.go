package readmodel

import (
	"context"
	"time"
)

// Generations is a store in which the next generation of the read model can be made beside the one that is asked, while
// events and questions flow. A rebuild calls it; its methods must not be called concurrently, but for Load.
//
// A generation is a whole read model but for the outcomes of commands, which are kept once: neither the write side's state
// nor other events could give them again. Generations are numbered from 1. Each of them is fed until it is dropped,
// whether it is asked or not, so that readers can be switched to and fro.
type Generations interface {
	// Name is what people call the store: clickhouse.
	Name() string
	// List returns the generations that there are, in order, also one whose making was broken off, and the one that
	// Readers are answered from: 0 if there is none.
	List(ctx context.Context) (all []int, live int, err error)
	// Begin makes an empty generation, or what is missing of one that it began before. Every block whose Apply returns
	// after Begin has returned is in it, whoever applied it: Begin waits for those that were under way.
	Begin(ctx context.Context, generation int) error
	// Settle returns once no block is being applied that was when it was called: each is wholly in every generation, or was
	// refused.
	Settle(ctx context.Context) error
	// Load adds rows to a generation. A row that is not newer than the one of its key, by version, changes no answer, so
	// rows may be loaded again, and beside blocks that have the same. If it fails, some of them may be there. The parts must
	// come as fast as they are taken: a store may have all of them in one statement. It may be called concurrently.
	Load(ctx context.Context, generation int, rows Parts) error
	// Read hands over what a generation has, in parts, each only until the next: of some SKUs, or of all if skus is nil.
	// Rows that were deleted are not among them. Parts may be from different moments.
	Read(ctx context.Context, generation int, skus []string, each func(*State) error) error
	// Switch has Readers answered from a generation: at no moment is a question left without an answer. If it was broken
	// off, it can be called again.
	Switch(ctx context.Context, generation int) error
	// Drop ends a generation, which must not be the one that is asked, and all that Mark kept with it.
	Drop(ctx context.Context, generation int) error
	// Mark keeps a word about a generation, by name, so that another process can go on where this one ended. It survives
	// a crash once it has returned.
	Mark(ctx context.Context, generation int, name, value string) error
	// Marks returns all that is kept about a generation.
	Marks(ctx context.Context, generation int) (map[string]string, error)
	Close() error
}

// Logged is a store that keeps every event, for longer than the topic may.
type Logged interface {
	// LogParts returns names for parts of the log that together have all events below some offsets of the events topic,
	// by partition, and how many events each has. They are the same at each call, unless events came.
	LogParts(ctx context.Context, below map[int32]int64) (parts []LogPart, err error)
	// LoadLog adds to a generation what a part's events below the offsets come to.
	LoadLog(ctx context.Context, generation int, below map[int32]int64, part string) error
	// CompleteLines puts right what the write side does not know of lines that were loaded from it, as far as the log has
	// it: for one that a cut moved to another batch, the cut's command and time.
	CompleteLines(ctx context.Context, generation int) error
}

// Summed is a store that can add up its rows by itself. Rows of any other are read and added up by rowsum.Adder.
type Summed interface {
	// Sums returns what all rows that Read would hand over come to, by SKU.
	Sums(ctx context.Context, generation int) (map[string]Sum, error)
}

// Sum is what the rows of a SKU come to.
type Sum struct {
	Version  uint64 // the SKU's; 0: it has no row
	Rows     int64
	Checksum uint64 // the checksums of rowsum.Adder's rows, by XOR
}

// LogPart is a part of a store's log.
type LogPart struct {
	Name   string
	Events int64
}

// State is rows of a generation. Each stands for itself: it has the version that orders it among the rows of its key.
type State struct {
	SKUs    []SKURow
	Batches []BatchRow
	Refs    []RefRow
	Lines   []LineRow
}

// Parts hands rows over, in parts, and returns what kept it from it, or the first error of add. A part is good until add returns.
type Parts func(add func(*State) error) error

// SKURow is what is left of a SKU in all.
type SKURow struct {
	SKU       string
	Version   uint64
	Available int64
	EventTime time.Time // of the command that changed it last
}

// BatchRow is what is left of a batch. Its Version may be higher than that of the batch's last change, up to the SKU's.
type BatchRow struct {
	SKU string
	Batch
	EventTime time.Time // of the command that changed it last
}

// RefRow says that a SKU has a batch of a reference.
type RefRow struct{ Ref, SKU string }

// LineRow is an order line after Version. One without a BatchRef has no batch any more: it is kept so that a row from
// before it, which may still come, does not count.
type LineRow struct {
	Line
	CommandID string    // of the command that made the change
	EventTime time.Time // of that command
}

// Whole hands all rows over as one part. It is Parts for those who have them in memory.
func (s *State) Whole(add func(*State) error) error { return add(s) }

// Len is how many rows there are.
func (s *State) Len() int { return len(s.SKUs) + len(s.Batches) + len(s.Refs) + len(s.Lines) }

// HandOver hands the rows over and empties s, if there are at least so many. It is for those who read rows in parts.
func (s *State) HandOver(rows int, each func(*State) error) error {
	if s.Len() < rows {
		return nil
	}
	if err := each(s); err != nil {
		return err
	}
	*s = State{SKUs: s.SKUs[:0], Batches: s.Batches[:0], Refs: s.Refs[:0], Lines: s.Lines[:0]}
	return nil
}
