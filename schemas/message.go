package schemas

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

// A field is a name on the wire. The same name means the same thing in every message.
type field uint8

const (
	fieldOrderID field = iota
	fieldSKU
	fieldRef
	fieldQty
	fieldETA
	fieldVersion
	fieldCommandID
	fieldCommandSource
	fieldSeq
	fieldLast
	fieldBatchRef
	fieldBatchQty
	fieldBatchAvailable
	fieldAvailable
	fieldReason
	fieldMessage
	fieldCount
)

var fieldNames = [fieldCount]string{
	"orderid", "sku", "ref", "qty", "eta",
	"version", "commandid", "commandsource", "seq", "last",
	"batchref", "batch_qty", "batch_available", "available", "reason", "message",
}

// A member is a field of one message.
type member struct {
	field field
	kind  kind
}

func (m member) name() string { return fieldNames[m.field] }

// A message is one type of command or event: the one description that encoder, decoder and the test
// against the proto descriptors go by.
type message struct {
	ceType  string   // the proto message's full name
	members []member // in the order of the canonical JSON
}

const (
	commandPackage = "lotline.command.v1."
	eventPackage   = "lotline.event.v1."
)

var (
	orderID        = member{fieldOrderID, kindID}
	sku            = member{fieldSKU, kindID}
	ref            = member{fieldRef, kindID}
	qty            = member{fieldQty, kindInt32}
	eta            = member{fieldETA, kindDate}
	batchRef       = member{fieldBatchRef, kindID}
	batchQty       = member{fieldBatchQty, kindInt32}
	batchAvailable = member{fieldBatchAvailable, kindInt32}
	available      = member{fieldAvailable, kindInt64}
	reason         = member{fieldReason, kindID}
	text           = member{fieldMessage, kindText}
	namedOrder     = member{fieldOrderID, kindOptionalID}
	namedBatch     = member{fieldBatchRef, kindOptionalID}
)

// commandMessages is indexed by CommandType; index 0 is no command.
var commandMessages = [...]message{
	CommandCreateBatch:         {commandPackage + "CreateBatch", []member{ref, sku, qty, eta}},
	CommandAllocate:            {commandPackage + "Allocate", []member{orderID, sku, qty}},
	CommandDeallocate:          {commandPackage + "Deallocate", []member{orderID, sku}},
	CommandChangeBatchQuantity: {commandPackage + "ChangeBatchQuantity", []member{ref, sku, qty}},
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

// event describes an event: what all have in common, then its own members.
func event(name string, own ...member) message {
	common := []member{
		sku,
		{fieldVersion, kindUint64},
		{fieldCommandID, kindID},
		{fieldCommandSource, kindOptionalID},
		{fieldSeq, kindInt32},
		{fieldLast, kindBool},
	}
	return message{eventPackage + name, append(common, own...)}
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
