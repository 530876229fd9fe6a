package schemas

import (
	"fmt"
	"strconv"
)

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

// AppendEvent appends the event's canonical JSON to dst and returns the extended slice. Bytes that are not
// UTF-8 become U+FFFD. It panics if e.Type is unknown: an event without a type is a fault of the caller,
// never of its input.
func AppendEvent(dst []byte, e *Event) []byte {
	members := eventMessages[e.Type].members
	for i, m := range members {
		dst = appendName(dst, i, m)
		switch m.field {
		case fieldSKU:
			dst = appendString(dst, e.SKU)
		case fieldVersion:
			dst = strconv.AppendUint(dst, e.Version, 10)
		case fieldCommandID:
			dst = appendString(dst, e.CommandID)
		case fieldCommandSource:
			dst = appendString(dst, e.CommandSource)
		case fieldSeq:
			dst = strconv.AppendInt(dst, int64(e.Seq), 10)
		case fieldLast:
			dst = strconv.AppendBool(dst, e.Last)
		case fieldOrderID:
			dst = appendString(dst, e.OrderID)
		case fieldQty:
			dst = strconv.AppendInt(dst, int64(e.Qty), 10)
		case fieldBatchRef:
			dst = appendString(dst, e.BatchRef)
		case fieldBatchQty:
			dst = strconv.AppendInt(dst, int64(e.BatchQty), 10)
		case fieldBatchAvailable:
			dst = strconv.AppendInt(dst, int64(e.BatchAvailable), 10)
		case fieldETA:
			dst = appendDate(dst, e.ETA)
		case fieldAvailable:
			dst = strconv.AppendInt(dst, e.Available, 10)
		case fieldReason:
			dst = appendString(dst, e.Reason)
		case fieldMessage:
			dst = appendString(dst, e.Message)
		}
	}
	return append(dst, '}')
}

// DecodeEvent reads an event from a record's value, with the rules of DecodeCommand.
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
