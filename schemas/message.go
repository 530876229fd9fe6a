package schemas

import "google.golang.org/protobuf/encoding/protowire"

// A kind says what a member's JSON value must be; expected names it in sentences.
type kind uint8

const (
	kindID         kind = iota // string, 1 to MaxIDBytes bytes, no control characters
	kindOptionalID             // the same, or empty
	kindText                   // any string
	kindDate                   // string YYYY-MM-DD, or null (or an empty or absent one) for none
	kindInt32                  // whole number
	kindInt64                  // whole number
	kindUint64                 // whole number
	kindBool
)

func (k kind) expected() string {
	switch k {
	case kindInt32, kindInt64, kindUint64:
		return "a number"
	case kindBool:
		return "true or false"
	case kindDate:
		return "a string or null"
	default:
		return "a string"
	}
}

// A field is a name on the wire. The same name means the same thing in every message. Texts come first.
type field uint8

const (
	fieldOrderID field = iota
	fieldSKU
	fieldRef
	fieldETA
	fieldCommandID
	fieldCommandSource
	fieldBatchRef
	fieldReason
	fieldMessage
	fieldQty
	fieldVersion
	fieldSeq
	fieldLast
	fieldBatchQty
	fieldBatchAvailable
	fieldAvailable
	fieldCount
)

const firstNumber = fieldQty

var fieldNames = [fieldCount]string{
	"orderid", "sku", "ref", "eta", "commandid", "commandsource", "batchref", "reason", "message",
	"qty", "version", "seq", "last", "batch_qty", "batch_available", "available",
}

// A member is a field of one message.
type member struct {
	field    field
	kind     kind
	number   protowire.Number // of the proto field
	presence bool             // the proto field is optional: unset is not zero
	jsonName string           // what stands before the value: {"name": or ,"name":
}

func (m member) name() string { return fieldNames[m.field] }

// A message is one type of command or event: the one description that encoder, decoder and the test
// against the proto descriptors go by.
type message struct {
	ceType  string   // the proto message's full name
	members []member // in the order of the canonical JSON, which is that of their numbers
}

const (
	commandPackage = "lotline.command.v1."
	eventPackage   = "lotline.event.v1."
)

var (
	orderID        = member{field: fieldOrderID, kind: kindID}
	sku            = member{field: fieldSKU, kind: kindID}
	ref            = member{field: fieldRef, kind: kindID}
	qty            = member{field: fieldQty, kind: kindInt32}
	eta            = member{field: fieldETA, kind: kindDate}
	batchRef       = member{field: fieldBatchRef, kind: kindID}
	batchQty       = member{field: fieldBatchQty, kind: kindInt32}
	batchAvailable = member{field: fieldBatchAvailable, kind: kindInt32}
	available      = member{field: fieldAvailable, kind: kindInt64}
	reason         = member{field: fieldReason, kind: kindID}
	text           = member{field: fieldMessage, kind: kindText}
	namedOrder     = member{field: fieldOrderID, kind: kindOptionalID}
	namedBatch     = member{field: fieldBatchRef, kind: kindOptionalID}
)

// commandMessages is indexed by CommandType; index 0 is no command.
var commandMessages = [...]message{
	CommandCreateBatch:         command("CreateBatch", ref, sku, qty, eta),
	CommandAllocate:            command("Allocate", orderID, sku, qty),
	CommandDeallocate:          command("Deallocate", orderID, sku),
	CommandChangeBatchQuantity: command("ChangeBatchQuantity", ref, sku, qty),
}

// eventMessages is indexed by EventType; index 0 is no event.
var eventMessages = [...]message{
	EventBatchCreated:         event("BatchCreated", batchRef, batchQty, batchAvailable, eta, available),
	EventBatchQuantityChanged: event("BatchQuantityChanged", batchRef, batchQty, batchAvailable, eta, available),
	EventAllocated:            event("Allocated", orderID, qty, batchRef, batchQty, batchAvailable, eta, available),
	EventDeallocated:          event("Deallocated", orderID, qty, batchRef, batchQty, batchAvailable, eta, available, reason),
	EventOutOfStock:           event("OutOfStock", orderID, qty, available),
	EventCommandIgnored:       event("CommandIgnored", namedOrder, namedBatch, reason, text),
	EventCommandRejected:      event("CommandRejected", namedOrder, namedBatch, reason, text),
}

// command describes a command, its fields numbered from 1.
func command(name string, members ...member) message {
	for i := range members {
		members[i].number = protowire.Number(i + 1)
		members[i].presence = members[i].field == fieldQty
	}
	return describe(commandPackage+name, members)
}

// event describes an event: what all have in common, then its own members. A field has the same number in
// every event.
func event(name string, own ...member) message {
	members := append([]member{
		sku,
		{field: fieldVersion, kind: kindUint64},
		{field: fieldCommandID, kind: kindID},
		{field: fieldCommandSource, kind: kindOptionalID},
		{field: fieldSeq, kind: kindInt32},
		{field: fieldLast, kind: kindBool},
	}, own...)
	for i := range members {
		members[i].number = eventNumbers[members[i].field]
	}
	return describe(eventPackage+name, members)
}

func describe(ceType string, members []member) message {
	for i := range members {
		members[i].jsonName = `,"` + members[i].name() + `":`
	}
	members[0].jsonName = "{" + members[0].jsonName[1:]
	return message{ceType, members}
}

var eventNumbers = [fieldCount]protowire.Number{
	fieldSKU: 1, fieldVersion: 2, fieldCommandID: 3, fieldCommandSource: 4, fieldSeq: 5, fieldLast: 6,
	fieldOrderID: 7, fieldQty: 8, fieldBatchRef: 9, fieldBatchQty: 10, fieldBatchAvailable: 11, fieldETA: 12,
	fieldAvailable: 13, fieldReason: 14, fieldMessage: 15,
}

// typeOf is the index of the message named ceType, or 0.
func typeOf(messages []message, ceType string) int {
	for i := 1; i < len(messages); i++ {
		if messages[i].ceType == ceType {
			return i
		}
	}
	return 0
}
