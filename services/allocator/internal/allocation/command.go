package allocation

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Kind says what a command asks for.
type Kind uint8

// The kinds of commands.
const (
	CreateBatch         Kind = iota + 1 // SKU, Ref, Qty, ETA
	Allocate                            // SKU, OrderID, Qty
	Deallocate                          // SKU, OrderID
	ChangeBatchQuantity                 // SKU, Ref, Qty
)

// CommandID is the identity that the producer gave a command, unique for the
// SKU. Without an ID (the zero value) a command is never taken for a repeat.
type CommandID struct{ Source, ID string }

// Given reports whether the producer gave the command an id.
func (id CommandID) Given() bool { return id.ID != "" }

// Position is where a command stands in the commands topic.
type Position struct {
	Partition int32
	Offset    int64
}

// Command is one request, as read from the log. Which of the fields are set
// depends on Kind; those that do not apply are zero. Qty may be any number, and
// ETA any date: Decide refuses those out of range.
type Command struct {
	Kind     Kind
	SKU      string
	OrderID  string
	Ref      string // of a batch
	Qty      int32
	ETA      string // "" = in stock, else a real date, YYYY-MM-DD
	ID       CommandID
	Position Position
	Time     time.Time // when the broker appended it; may go back a little
}

// body digests what the command asks for, to tell a repeat from another
// command that carries the same id.
func (c *Command) body() [16]byte {
	buf := make([]byte, 0, 256)
	buf = append(buf, byte(c.Kind))
	for _, field := range [...]string{c.SKU, c.OrderID, c.Ref, c.ETA} {
		buf = binary.AppendUvarint(buf, uint64(len(field)))
		buf = append(buf, field...)
	}
	buf = binary.AppendVarint(buf, int64(c.Qty))
	sum := sha256.Sum256(buf)
	return [16]byte(sum[:16])
}
