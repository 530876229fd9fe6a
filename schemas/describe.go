package schemas

import "strings"

// Field describes a field of a message as its canonical JSON has it, for documents that are made of the wire.
type Field struct {
	Name     string
	Type     string // in JSON: string, integer or boolean
	Optional bool   // a producer may leave it out; events have every field
	Date     bool   // a string of the form YYYY-MM-DD, or null
	ID       bool   // a string of at most MaxIDBytes without control characters
	Empty    bool   // a string that may be ""
	Min      int64  // of an integer
	Max      uint64 // of an integer
}

// Fields describes the fields of the message named ceType, in their order; none if there is no such message.
func Fields(ceType string) []Field {
	var fields []Field
	for _, m := range append(commandMessages[1:len(commandMessages):len(commandMessages)], eventMessages[1:]...) {
		if m.ceType != ceType {
			continue
		}
		for _, member := range m.members {
			f := Field{Name: member.name(), Type: "string"}
			switch member.kind {
			case kindInt32, kindInt64, kindUint64:
				f.Type = "integer"
				f.Min, f.Max = member.kind.bounds()
			case kindBool:
				f.Type = "boolean"
			case kindDate:
				f.Date, f.Optional = true, strings.HasPrefix(ceType, commandPackage)
			case kindText:
				f.Empty = true
			case kindID, kindOptionalID:
				f.ID, f.Empty = true, member.kind == kindOptionalID
			}
			fields = append(fields, f)
		}
	}
	return fields
}
