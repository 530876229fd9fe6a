package schemas

import "fmt"

// EventType says which event it is. The zero value is none.
type EventType uint8

// The events. The first five change a SKU's state.
const (
	EventBatchCreated EventType = iota + 1
	EventBatchQuantityChanged
	EventAllocated
	EventDeallocated
	EventOutOfStock
	EventCommandIgnored
	EventCommandRejected
)

// String is the short name, for example "Allocated".
func (t EventType) String() string {
	if t == 0 || int(t) >= len(eventMessages) {
		return fmt.Sprintf("EventType(%d)", uint8(t))
	}
	return eventMessages[t].ceType[len(eventPackage):]
}

// CEType is the CloudEvents type and the proto message's full name, for example
// "lotline.event.v1.Allocated". It panics if t is not one of the constants.
func (t EventType) CEType() string {
	return eventMessages[t].ceType
}

// ChangesState reports whether the event is part of its SKU's history and took a version of its own.
func (t EventType) ChangesState() bool {
	return t >= EventBatchCreated && t <= EventOutOfStock
}

// Event is any event, flat. Fields that its Type does not have are zero.
type Event struct {
	Type          EventType
	SKU           string
	Version       uint64 // the SKU's: after this event, or as it was if the event changes nothing
	CommandID     string
	CommandSource string
	Seq           int32 // position among the command's events, from 0
	Last          bool  // the command's last event

	OrderID        string
	Qty            int32 // the line's, in units
	BatchRef       string
	BatchQty       int32  // units purchased
	BatchAvailable int32  // units left in the batch
	ETA            string // YYYY-MM-DD, or "" for in stock
	Available      int64  // units left over all batches of the SKU
	Reason         string // a stable code; event.proto lists them
	Message        string // a sentence for people
}

// fill sets the event's fields in v.
func (e *Event) fill(v *values) {
	v.texts[fieldSKU], v.texts[fieldCommandID], v.texts[fieldCommandSource] = e.SKU, e.CommandID, e.CommandSource
	v.texts[fieldOrderID], v.texts[fieldBatchRef], v.texts[fieldETA] = e.OrderID, e.BatchRef, e.ETA
	v.texts[fieldReason], v.texts[fieldMessage] = e.Reason, e.Message
	v.numbers[fieldVersion-firstNumber], v.numbers[fieldSeq-firstNumber], v.numbers[fieldQty-firstNumber] = e.Version, uint64(e.Seq), uint64(e.Qty)
	v.numbers[fieldBatchQty-firstNumber], v.numbers[fieldBatchAvailable-firstNumber] = uint64(e.BatchQty), uint64(e.BatchAvailable)
	v.numbers[fieldAvailable-firstNumber] = uint64(e.Available)
	if e.Last {
		v.numbers[fieldLast-firstNumber] = 1
	}
}

// AppendEvent appends the event's canonical JSON to dst and returns the extended slice. Bytes that are not
// UTF-8 become U+FFFD. It panics if e.Type is unknown: an event without a type is a fault of the caller,
// never of its input.
func AppendEvent(dst []byte, e *Event) []byte { return JSON.AppendEvent(dst, e) }

// DecodeEvent reads an event from a record's value, with the rules of DecodeCommand; only that protobuf
// leaves out numbers that are zero, and texts that may be empty and are.
func DecodeEvent(ceType, contentType string, data []byte) (Event, error) {
	t := EventType(typeOf(eventMessages[:], ceType))
	if t == 0 {
		return Event{}, fmt.Errorf("the type %s is not a known event", clipped(ceType))
	}
	r := newReader()
	defer r.release()
	if err := r.read(eventMessages[t].members, contentType, data); err != nil {
		return Event{}, err
	}
	chars := string(r.chars)
	return Event{
		Type:           t,
		SKU:            r.text(chars, fieldSKU),
		Version:        r.numbers[fieldVersion],
		CommandID:      r.text(chars, fieldCommandID),
		CommandSource:  r.text(chars, fieldCommandSource),
		Seq:            int32(r.numbers[fieldSeq]),
		Last:           r.numbers[fieldLast] != 0,
		OrderID:        r.text(chars, fieldOrderID),
		Qty:            int32(r.numbers[fieldQty]),
		BatchRef:       r.text(chars, fieldBatchRef),
		BatchQty:       int32(r.numbers[fieldBatchQty]),
		BatchAvailable: int32(r.numbers[fieldBatchAvailable]),
		ETA:            r.text(chars, fieldETA),
		Available:      int64(r.numbers[fieldAvailable]),
		Reason:         r.text(chars, fieldReason),
		Message:        r.text(chars, fieldMessage),
	}, nil
}
