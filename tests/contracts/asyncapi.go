package contracts

import (
	"strconv"
	"strings"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/topics"
)

// kafkaBinding is the version of AsyncAPI's Kafka bindings that the document is written in.
const kafkaBinding = "0.5.0"

// asyncAPI describes the topics from the side of Lotline: it receives commands, and sends events and dead letters.
func asyncAPI(commands, events []message, declared topics.Set) object {
	var messages object
	for _, m := range append(append([]message{}, commands...), events...) {
		messages = append(messages, member{m.name, m.async()})
	}
	messages = append(messages, member{structured, structuredCommand(commands)}, member{"DeadLetter", deadLetter()})
	return object{
		{"asyncapi", "3.0.0"},
		{"info", object{
			{"title", "Lotline"},
			{"version", "1.0.0"},
			{"description", "Allocates stock to order lines. Commands come in on one topic, what became of them is published on another. " +
				"CloudEvents 1.0 in Kafka's binary mode: attributes in headers, and the value is the message, in JSON or, as the header content-type says, protobuf. " +
				"Commands may also come in structured mode, as one document with attributes and data."},
			{"license", object{{"name", "Apache-2.0"}, {"url", "https://www.apache.org/licenses/LICENSE-2.0"}}},
		}},
		{"defaultContentType", schemas.ContentTypeJSON},
		{"channels", object{
			{"commands", channel(declared.Commands, "What producers ask of Lotline.", append(names(commands), structured))},
			{"events", channel(declared.Events, "What became of each command. Read committed events only.", names(events))},
			{"deadLetters", channel(declared.DeadLetters, "Commands that could not be read, as they came.", []string{"DeadLetter"})},
		}},
		{"operations", object{
			{"receiveCommands", operation("receive", "commands")},
			{"sendEvents", operation("send", "events")},
			{"sendDeadLetters", operation("send", "deadLetters")},
		}},
		{"components", object{{"messages", messages}}},
	}
}

func names(messages []message) (names []string) {
	for _, m := range messages {
		names = append(names, m.name)
	}
	return names
}

func operation(action, channel string) object {
	return object{{"action", action}, {"channel", object{{"$ref", "#/channels/" + channel}}}}
}

// channel is a topic as it is declared.
func channel(t topics.Topic, description string, messages []string) object {
	var refs object
	for _, name := range messages {
		refs = append(refs, member{name, object{{"$ref", "#/components/messages/" + name}}})
	}
	return object{
		{"address", t.Name},
		{"description", description},
		{"messages", refs},
		{"bindings", object{{"kafka", object{
			{"topic", t.Name},
			{"partitions", t.Partitions},
			{"topicConfiguration", topicConfiguration(t.Config)},
			{"bindingVersion", kafkaBinding},
		}}}},
	}
}

// topicConfiguration has those settings of a topic that the bindings know, with their types.
func topicConfiguration(settings map[string]string) object {
	var c object
	for _, name := range [...]string{"cleanup.policy", "retention.ms", "max.message.bytes"} {
		value := settings[name]
		if number, err := strconv.ParseInt(value, 10, 64); err == nil {
			c = append(c, member{name, number})
		} else {
			c = append(c, member{name, strings.Split(value, ",")})
		}
	}
	return c
}

// async is the message as AsyncAPI has it. Every topic is keyed by SKU.
func (m message) async() object {
	required := []string{cloudevents.HeaderType}
	if strings.HasPrefix(m.ceType, "lotline.event.") {
		required = []string{cloudevents.HeaderSpecVersion, cloudevents.HeaderID, cloudevents.HeaderSource, cloudevents.HeaderType, cloudevents.HeaderTime, cloudevents.HeaderContentType}
	}
	return object{
		{"name", m.ceType},
		{"title", m.name},
		{"summary", m.comment},
		{"contentType", schemas.ContentTypeJSON},
		{"headers", object{
			{"type", "object"},
			{"properties", object{
				{cloudevents.HeaderSpecVersion, object{{"type", "string"}, {"const", cloudevents.SpecVersion}}},
				{cloudevents.HeaderID, text("Names the message among those of its source; the same again is a repeat.")},
				{cloudevents.HeaderSource, text("Who sent it.")},
				{cloudevents.HeaderType, object{{"description", "Which message it is."}, {"type", "string"}, {"const", m.ceType}}},
				{cloudevents.HeaderTime, object{{"description", "When it happened. Of a command it decides nothing."}, {"type", "string"}, {"format", "date-time"}}},
				{cloudevents.HeaderContentType, encoding("How the value is encoded.")},
				{telemetry.HeaderTraceParent, object{{"description", "W3C trace context: what the message is part of. Events have their command's."}, {"type", "string"}}},
				{telemetry.HeaderTraceState, object{{"description", "The rest of the trace context."}, {"type", "string"}}},
			}},
			{"required", required},
		}},
		{"payload", m.schema},
		{"bindings", keyed(bySKU)},
	}
}

const bySKU = "The sku. It spreads the records over partitions and decides nothing."

func text(description string) object {
	return object{{"description", description}, {"type", "string"}, {"maxLength", cloudevents.MaxAttributeBytes}}
}

func encoding(description string) object {
	return object{{"description", description}, {"type", "string"}, {"enum", [...]string{schemas.ContentTypeJSON, schemas.ContentTypeProtobuf}}}
}

// structured is the name of the message that any command is in structured mode.
const structured = "StructuredCommand"

// structuredCommand is any command in structured mode: attributes and data in one document, and one header that says so.
func structuredCommand(commands []message) object {
	var types []string
	for _, m := range commands {
		types = append(types, m.ceType)
	}
	return object{
		{"name", structured},
		{"title", structured},
		{"summary", "Any command in CloudEvents' structured mode, for producers that cannot set headers for each attribute."},
		{"contentType", cloudevents.ContentTypeStructured},
		{"headers", object{
			{"type", "object"},
			{"properties", object{{cloudevents.HeaderContentType, object{{"type", "string"}, {"const", cloudevents.ContentTypeStructured}}}}},
			{"required", []string{cloudevents.HeaderContentType}},
		}},
		{"payload", object{
			{"type", "object"},
			{"properties", object{
				{"specversion", object{{"type", "string"}, {"const", cloudevents.SpecVersion}}},
				{"id", text("As the header ce_id of the other messages.")},
				{"source", text("As the header ce_source of the other messages.")},
				{"type", object{{"description", "Which command it is."}, {"type", "string"}, {"enum", types}}},
				{"datacontenttype", encoding("How the data is encoded; JSON if it is absent.")},
				{telemetry.HeaderTraceParent, object{{"description", "W3C trace context, of the extension for distributed tracing. A header of that name goes before it."}, {"type", "string"}}},
				{telemetry.HeaderTraceState, object{{"description", "The rest of the trace context."}, {"type", "string"}}},
				{"data", object{{"description", "The command in JSON, as the message of its type has it."}, {"type", "object"}}},
				{"data_base64", object{{"description", "The command's bytes in base64, in place of data."}, {"type", "string"}, {"contentEncoding", "base64"}}},
			}},
			{"required", []string{"type"}},
			{"oneOf", [...]object{{{"required", []string{"data"}}}, {{"required", []string{"data_base64"}}}}},
		}},
		{"bindings", keyed(bySKU)},
	}
}

// deadLetter is a command that could not be read: its headers, key and value as they came, and headers that say why.
func deadLetter() object {
	var properties object
	required := []string{}
	for _, h := range [...]member{
		{"dlq_reason", "What is wrong, a sentence."},
		{"dlq_topic", "The topic it was on."},
		{"dlq_partition", "The partition it was on."},
		{"dlq_offset", "The offset it was at."},
		{"dlq_timestamp", "When the broker got it, RFC 3339."},
	} {
		properties = append(properties, member{h.name, object{{"description", h.value}, {"type", "string"}}})
		required = append(required, h.name)
	}
	return object{
		{"name", "lotline.commands.dlq"},
		{"title", "DeadLetter"},
		{"summary", "A command that could not be read: key, value and headers as they came, and headers that say why."},
		{"contentType", "application/octet-stream"},
		{"headers", object{{"type", "object"}, {"properties", properties}, {"required", required}}},
		{"payload", object{{"description", "The value as it came: any bytes."}}},
		{"bindings", keyed("As it came.")},
	}
}

func keyed(description string) object {
	return object{{"kafka", object{
		{"key", object{{"description", description}, {"type", "string"}}},
		{"bindingVersion", kafkaBinding},
	}}}
}
