package readmodel

import (
	"context"
	"time"
)

// ChangesMax is the largest number of changes that one question about the past is answered with.
const ChangesMax = 1000

// Historian is a Reader that keeps what happened, not only what came of it. A Reader may be one.
//
// Its answers may lack what happened in the last moments, as a Reader's do, and are for people: they are not gathered with
// other questions, and may take longer.
type Historian interface {
	// History returns what happened to a SKU, oldest first: its newest changes with a version below before (0: its newest),
	// at most limit of them, which is from 1 to ChangesMax.
	History(ctx context.Context, sku string, before uint64, limit int) ([]Change, error)
	// Story returns what happened to an order's lines, in the order in which it did, refusals included: the first ones, at
	// most limit of them, which is from 1 to ChangesMax.
	Story(ctx context.Context, orderID string, limit int) ([]Change, error)
}

// Change is something that happened: an event. Fields that its Type does not have are zero.
type Change struct {
	Type                     string // the event's short name
	SKU                      string
	Version                  uint64 // of the SKU, after it
	CommandID, CommandSource string
	OrderID                  string
	Qty                      int32 // the line's, in units
	BatchRef                 string
	BatchQty, BatchAvailable int32  // units purchased and left in the batch, after it
	ETA                      string // day the batch arrives, YYYY-MM-DD; "": in stock
	Available                int64  // units left over all batches of the SKU, after it
	Reason, Message          string
	EventTime                time.Time // when the command was appended to the command log
}
