package allocation

import "time"

// Batch is a quantity of the SKU that was purchased together.
type Batch struct {
	Ref            string
	ETA            string // "" = in stock, else YYYY-MM-DD
	CreatedVersion uint64 // of the SKU, when the batch was created
	CreatedQty     int32  // purchased at first: what a repeated CreateBatch is held against
	Qty            int32  // purchased now, 0..1e9
	Available      int32  // purchased and not allocated, 0..Qty
}

// Line is one SKU of an order. Its row stays after the line left its batch.
type Line struct {
	OrderID          string
	Qty              int32
	BatchRef         string // "" = not allocated now
	AllocatedVersion uint64 // of the line's last Allocated event

	// The Allocate command that allocated it: goes to Seen when the line is left
	// without a batch. A line that moves to another batch keeps it.
	Command     CommandID
	Position    Position
	CommandTime time.Time
}

// Seen remembers a command that neither a batch nor an allocated line would
// betray if it came again.
type Seen struct {
	Command  CommandID
	Body     [16]byte // digest of what it asked for
	Position Position
	Time     time.Time // its append time
}

// Facts are the rows that the commands of one chunk need beside the open
// batches: all of them for one SKU, as they are before the chunk's first command.
type Facts struct {
	Lines   []Line                 // those that an Allocate or Deallocate names
	Batches []Batch                // those that a command or one of Lines names; open ones may be left out
	Seen    []Seen                 // those whose id a command carries
	Newest  map[string]NewestLines // by batch: those that a ChangeBatchQuantity names
}

// NewestLines are lines allocated to a batch that may be cut.
type NewestLines struct {
	Lines []Line // greatest AllocatedVersion first
	// Complete: no older line exists, or the older ones fit into the least
	// quantity that the chunk asks for. If false, there are more than Lines: any
	// number will do, but at least Limits.CutLinesMax+1 of a batch that the chunk's
	// first command names, so that it can be decided.
	Complete bool
}

// Changes are the rows to write, whole: those that are not stored yet, and
// those that overwrite the stored one with their key. Seen may be either. Each
// slice is sorted by its key.
type Changes struct {
	NewBatches, Batches []Batch // by Ref
	NewLines, Lines     []Line  // by OrderID
	Seen                []Seen  // by Source, ID
}

// Limits bound what one command may do and how long its id is remembered. They
// are part of the rules: other limits, other events.
type Limits struct {
	CutLinesMax        int           // lines that one ChangeBatchQuantity may move; >= 1
	CommandIDRetention time.Duration // between the append times of a command and its repeat; > 0
}
