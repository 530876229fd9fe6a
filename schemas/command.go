package schemas

import "fmt"

// CommandType says which command it is. The zero value is none.
type CommandType uint8

// The commands.
const (
	CommandCreateBatch CommandType = iota + 1
	CommandAllocate
	CommandDeallocate
	CommandChangeBatchQuantity
)

// String is the short name, for example "Allocate".
func (t CommandType) String() string {
	if t == 0 || int(t) >= len(commandMessages) {
		return fmt.Sprintf("CommandType(%d)", uint8(t))
	}
	return commandMessages[t].ceType[len(commandPackage):]
}

// CEType is the CloudEvents type and the proto message's full name, for example
// "lotline.command.v1.Allocate". It panics if t is not one of the constants.
func (t CommandType) CEType() string {
	return commandMessages[t].ceType
}

// Command is any command, flat. Fields that its Type does not have are zero.
type Command struct {
	Type    CommandType
	OrderID string
	SKU     string
	Ref     string // the batch's reference
	Qty     int32  // units; whether it is in range is the domain's to say
	ETA     string // YYYY-MM-DD, or "" for in stock
}

// fill sets the command's fields in v.
func (c *Command) fill(v *values) {
	v.texts[fieldOrderID], v.texts[fieldSKU], v.texts[fieldRef], v.texts[fieldETA] = c.OrderID, c.SKU, c.Ref, c.ETA
	v.numbers[fieldQty-firstNumber] = uint64(c.Qty)
}

// AppendCommand appends the command's canonical JSON to dst and returns the extended slice. Bytes that are
// not UTF-8 become U+FFFD. It panics if c.Type is unknown: a command without a type is a fault of the
// caller, never of its input.
func AppendCommand(dst []byte, c *Command) []byte { return JSON.AppendCommand(dst, c) }

// DecodeCommand reads a command from a record's value. ceType and contentType are the record's headers;
// an empty contentType means JSON. Unknown fields are ignored, an absent eta is none, everything else is
// required, in every encoding. An error means that nobody will ever be able to read this record: its message is one sentence that says what is wrong and
// quotes no more than a few bytes of it. The Command does not refer to data; its strings share memory,
// so clone one that is to outlive the others by far.
func DecodeCommand(ceType, contentType string, data []byte) (Command, error) {
	t := CommandType(typeOf(commandMessages[:], ceType))
	if t == 0 {
		return Command{}, fmt.Errorf("the type %s is not a known command", clipped(ceType))
	}
	r := newReader()
	defer r.release()
	if err := r.read(commandMessages[t].members, contentType, data); err != nil {
		return Command{}, err
	}
	chars := string(r.chars)
	return Command{
		Type:    t,
		OrderID: r.text(chars, fieldOrderID),
		SKU:     r.text(chars, fieldSKU),
		Ref:     r.text(chars, fieldRef),
		Qty:     int32(r.numbers[fieldQty]),
		ETA:     r.text(chars, fieldETA),
	}, nil
}
