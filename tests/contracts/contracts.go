// Package contracts makes the documents that other people's tools read of the wire: a JSON Schema (2020-12) for each
// command and event, and an AsyncAPI 3.0 document of the topics. Names, types and bounds come from schemas, meanings
// from the comments of the .proto files, and topics from their declaration.
//
// tests/cmd/contracts writes them into schemas/contracts (`make generate`); this package's tests hold the committed
// files to what is made now, and to samples of the wire. It imports schemas, topics, pkg and a compiler of .proto files.
package contracts

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/lotline/lotline/topics"
)

// AsyncAPIFile is the name of the AsyncAPI document.
const AsyncAPIFile = "asyncapi.json"

// SchemaFile is the name of a message's JSON Schema.
func SchemaFile(ceType string) string { return ceType + ".schema.json" }

// protoFiles are the wire, below the folder schemas/proto.
var protoFiles = [...]string{"lotline/command/v1/command.proto", "lotline/event/v1/event.proto"}

// Generate makes every document, by file name. protoDir is the folder schemas/proto.
func Generate(ctx context.Context, protoDir string, declared topics.Set) (map[string][]byte, error) {
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{protoDir}},
		SourceInfoMode: protocompile.SourceInfoStandard, // with comments
	}
	files, err := compiler.Compile(ctx, protoFiles[:]...)
	if err != nil {
		return nil, fmt.Errorf("compile the .proto files: %w", err)
	}
	var packages [len(protoFiles)][]message
	documents := map[string][]byte{}
	for i, file := range files {
		for j := range file.Messages().Len() {
			m, err := describe(file.Messages().Get(j))
			if err != nil {
				return nil, err
			}
			packages[i] = append(packages[i], m)
			if documents[SchemaFile(m.ceType)], err = render(m.document()); err != nil {
				return nil, err
			}
		}
	}
	documents[AsyncAPIFile], err = render(asyncAPI(packages[0], packages[1], declared))
	return documents, err
}

func render(document any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(document); err != nil {
		return nil, fmt.Errorf("write a document: %w", err)
	}
	return b.Bytes(), nil
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON is called by the encoder, which indents what it returns.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := e.Encode(m.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := e.Encode(m.value); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// comment is what stands before a declaration, in one paragraph.
func comment(d protoreflect.Descriptor) string {
	lines := strings.Fields(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments)
	return strings.Join(lines, " ")
}
