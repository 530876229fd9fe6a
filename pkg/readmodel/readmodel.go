// Package readmodel is the contract of a read model: what a store must do with events (Writer), and which questions
// it must answer from them (Reader). Each folder below is one store that keeps it, and readmodeltest is the suite that
// holds all of them to it.
//
// The projector writes, the gateway reads, and the operator's command builds anew and compares. This package imports
// the standard library and schemas; its stores import it, pkg and their own client library, and never each other.
//
// The promise on which everything rests: a row depends on its own event alone. An event carries the state after it and
// the (sku, version) that orders it, so a store keeps, for each key, what the highest version says. Records may then
// come twice, in part, late or in any order, from several writers at once, and the answers are the same.
package readmodel

import (
	"context"
	"errors"
	"time"
)

// ErrNotKept says that a store does not keep what a question asks for, and never will. Only a Reader without a
// projection returns it: what the write side forgets, it cannot tell.
var ErrNotKept = errors.New("this read model does not keep that")

// Bounds of answers.
const (
	// OrderLinesMax is the largest number of an order's lines that is answered; a store returns one more to show
	// that there are too many.
	OrderLinesMax = 10_000
	// RefSKUsMax is the largest number of SKUs that are named for one batch ref.
	RefSKUsMax = 100
	// KeysMax is the largest number of keys that a question may have.
	KeysMax = 500
	// ListMax is the largest number of SKUs that are listed at once.
	ListMax = 5000
)

// Writer takes events into one store. Its methods must not be called concurrently.
type Writer interface {
	// Name is what people call the store: clickhouse.
	Name() string
	// Check fails if Apply could not work now: the store is away, or its tables are not there or older than this
	// build's.
	Check(ctx context.Context) error
	// Apply returns nil once every record is kept: from then on each Reader answers with it. Records must have passed
	// Record.Check. After an error any part of them may be kept; it is safe to apply them again. A RefusedError says that
	// this is of no use before one of them is left out, an OverloadedError that it should be later; all others are outages.
	Apply(ctx context.Context, records []Record) error
	Close() error
}

// Reader answers questions from one store, each for many keys at once; a key of which nothing is known is not in the
// answer. Its methods may be called concurrently, with at most KeysMax keys. An error says that the store did not answer, or wraps ErrNotKept.
type Reader interface {
	Name() string
	// Check fails where the questions would.
	Check(ctx context.Context) error
	// Orders returns where the lines of orders are allocated, by SKU, at most OrderLinesMax + 1 of each.
	Orders(ctx context.Context, orderIDs []string) (map[string][]Allocation, error)
	// Lines returns single order lines, if they are allocated.
	Lines(ctx context.Context, keys []LineKey) (map[LineKey]Line, error)
	// Availability returns what is left of SKUs and their batches.
	Availability(ctx context.Context, skus []string) (map[string]Availability, error)
	// Outcomes returns what became of commands, by command id. Of several with one id the first that was sent counts.
	Outcomes(ctx context.Context, commandIDs []string) (map[string]Outcome, error)
	// SKUs returns which SKUs have a batch of a ref, in order, at most RefSKUsMax of each.
	SKUs(ctx context.Context, refs []string) (map[string][]string, error)
	Close() error
}

// Lister is a Reader that can go through all SKUs. A Reader may be one.
type Lister interface {
	// List returns what is left of the SKUs that come after one, which need not exist, in the store's own order: of the next
	// ones, at most limit of them, which is from 1 to ListMax, and no more once they have so many batches, at least 1: an answer
	// has fewer than that, and all those of its last SKU. "" comes before all; none means that it was the last.
	List(ctx context.Context, after string, limit, batches int) ([]Availability, error)
}

// LineKey names an order line.
type LineKey struct{ OrderID, SKU string }

// Allocation is what is asked most: which batch a line of an order has. The rest of the line would have to be read too.
type Allocation struct {
	SKU, BatchRef string
	Version       uint64 // of the SKU, when the line last changed
}

// Line is an order line that has a batch.
type Line struct {
	OrderID, SKU string
	BatchRef     string
	Qty          int32
	ETA          string // day the batch arrives, YYYY-MM-DD; "": in stock
	Version      uint64 // of the SKU, when the line last changed
}

// Allocation returns which batch the line has.
func (l Line) Allocation() Allocation {
	return Allocation{SKU: l.SKU, BatchRef: l.BatchRef, Version: l.Version}
}

// Availability is what is left of a SKU.
type Availability struct {
	SKU       string
	Version   uint64 // of the SKU
	Available int64  // units left over all batches
	Batches   []Batch
}

// Batch is what is left of a batch. Those of a SKU are in the order of their eta, in stock first, then of their ref.
type Batch struct {
	Ref            string
	Qty, Available int32  // units purchased, and left
	ETA            string // day it arrives, YYYY-MM-DD; "": in stock
	// Version is the SKU's when the batch last changed; after a rebuild from state, when it was read; 0: the store does not
	// keep it.
	Version uint64
}

// Outcome is what became of a command: its last event. Version is the SKU's.
type Outcome struct {
	CommandID, CommandSource string
	Type                     string // the event's short name
	SKU                      string
	Version                  uint64
	OrderID, BatchRef        string
	Reason, Message          string
	EventTime                time.Time // when the command was appended to the command log
}
