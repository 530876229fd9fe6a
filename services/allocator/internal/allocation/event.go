package allocation

// EventKind says what an event tells.
type EventKind uint8

// The kinds of events. The first five change the SKU's state and have a version
// of their own; the last two change nothing and carry the current version.
const (
	BatchCreated EventKind = iota + 1
	BatchQuantityChanged
	Allocated
	Deallocated
	OutOfStock
	CommandIgnored
	CommandRejected
)

// String returns the kind's name, as on the wire.
func (k EventKind) String() string {
	names := [...]string{
		"", "BatchCreated", "BatchQuantityChanged", "Allocated", "Deallocated",
		"OutOfStock", "CommandIgnored", "CommandRejected",
	}
	if int(k) >= len(names) {
		return ""
	}
	return names[k]
}

// Reason is the stable code that says why: consumers may branch on it.
type Reason string

// Why a line left its batch (Deallocated).
const (
	ReasonRequested            Reason = "requested"
	ReasonBatchQuantityChanged Reason = "batch_quantity_changed"
)

// Why a command changed nothing, harmlessly (CommandIgnored).
const (
	ReasonDuplicateLine     Reason = "duplicate_line"     // the line has a batch already
	ReasonDuplicateBatch    Reason = "duplicate_batch"    // the batch was created before, the same
	ReasonDuplicateCommand  Reason = "duplicate_command"  // the id was seen before, with the same body
	ReasonUnchangedQuantity Reason = "unchanged_quantity" // the batch has that quantity now
)

// Why a command was refused (CommandRejected).
const (
	ReasonInvalidSKU         Reason = "invalid_sku"
	ReasonUnknownBatch       Reason = "unknown_batch"
	ReasonQtyOutOfRange      Reason = "qty_out_of_range"
	ReasonETAOutOfRange      Reason = "eta_out_of_range"
	ReasonConflictingLine    Reason = "conflicting_line"    // allocated, with another quantity
	ReasonConflictingBatch   Reason = "conflicting_batch"   // created before, with other content
	ReasonConflictingCommand Reason = "conflicting_command" // the id was seen before, with another body
	ReasonNotAllocated       Reason = "not_allocated"
	ReasonCutTooLarge        Reason = "cut_too_large"
)

// Event is one outcome of a command, with the state after it. Which of the
// fields are set depends on Kind; those that do not apply are zero.
type Event struct {
	Kind    EventKind
	SKU     string
	Version uint64 // of the SKU, after the event; 0 if the SKU is unknown

	OrderID        string
	Qty            int32 // of the order line
	BatchRef       string
	BatchQty       int32 // purchased
	BatchAvailable int32
	ETA            string // of the batch; "" = in stock
	Available      int64  // the SKU's, in all batches

	Reason  Reason
	Message string // a sentence for people

	Seq  int32 // the number of the event within its command, from 0
	Last bool  // no event of the command follows
}
