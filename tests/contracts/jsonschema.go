package contracts

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/lotline/lotline/schemas"
)

// message is a command or an event, with its schema in the form that JSON Schema of every version and AsyncAPI share.
type message struct {
	ceType, name, comment string
	schema                object
}

// document is a schema that stands for itself.
func (m message) document() object {
	return append(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", "urn:lotline:schema:" + m.ceType},
	}, m.schema...)
}

// noControls are texts without the control characters of Unicode.
const noControls = `^[^\x00-\x1f\x7f-\x9f]*$`

// datePattern is beside the format, which validators may ignore.
const datePattern = `^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$`

func describe(d protoreflect.MessageDescriptor) (message, error) {
	m := message{ceType: string(d.FullName()), name: string(d.Name()), comment: comment(d)}
	var properties object
	var required []string
	for _, f := range schemas.Fields(m.ceType) {
		field := d.Fields().ByJSONName(f.Name)
		if field == nil {
			return message{}, fmt.Errorf("the message %s of schemas has a field %s, and the .proto file has none", m.ceType, f.Name)
		}
		properties = append(properties, member{f.Name, property(f, comment(field))})
		if !f.Optional {
			required = append(required, f.Name)
		}
	}
	if len(properties) != d.Fields().Len() {
		return message{}, fmt.Errorf("the message %s has %d fields in the .proto file and %d in schemas", m.ceType, d.Fields().Len(), len(properties))
	}
	m.schema = object{
		{"title", m.name},
		{"description", m.comment},
		{"type", "object"},
		{"properties", properties},
		{"required", required},
	}
	return m, nil
}

// property is the schema of a field. Lengths are counted in characters here and in bytes on the wire, so a schema is a
// little more patient than the decoder with texts that are not ASCII. Other members are allowed: readers ignore them.
func property(f schemas.Field, comment string) object {
	switch {
	case f.Date:
		return object{{"description", comment}, {"type", [...]string{"string", "null"}}, {"format", "date"}, {"pattern", datePattern}}
	case f.ID:
		p := object{{"description", comment}, {"type", f.Type}}
		if !f.Empty {
			p = append(p, member{"minLength", 1})
		}
		return append(p, member{"maxLength", schemas.MaxIDBytes}, member{"pattern", noControls})
	case f.Type == "integer":
		return object{{"description", comment}, {"type", f.Type}, {"minimum", f.Min}, {"maximum", f.Max}}
	default:
		return object{{"description", comment}, {"type", f.Type}}
	}
}
