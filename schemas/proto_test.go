package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/lotline/lotline/schemas/commandv1"
	"github.com/lotline/lotline/schemas/eventv1"
)

var protoKinds = map[kind]protoreflect.Kind{
	kindID: protoreflect.StringKind, kindOptionalID: protoreflect.StringKind, kindText: protoreflect.StringKind, kindDate: protoreflect.StringKind,
	kindInt32: protoreflect.Int32Kind, kindInt64: protoreflect.Int64Kind, kindUint64: protoreflect.Uint64Kind, kindBool: protoreflect.BoolKind,
}

// TestMessagesAreTheProtoFiles compares names, types, numbers and presence of all messages and fields, both ways.
func TestMessagesAreTheProtoFiles(t *testing.T) {
	type field struct {
		kind     protoreflect.Kind
		number   protoreflect.FieldNumber
		presence bool
	}
	declared, described := map[string]map[string]field{}, map[string]map[string]field{}
	for _, file := range []protoreflect.FileDescriptor{commandv1.File_lotline_command_v1_command_proto, eventv1.File_lotline_event_v1_event_proto} {
		for i := range file.Messages().Len() {
			m := file.Messages().Get(i)
			fields := map[string]field{}
			for j := range m.Fields().Len() {
				f := m.Fields().Get(j)
				fields[f.JSONName()] = field{f.Kind(), f.Number(), f.HasPresence()}
			}
			declared[string(m.FullName())] = fields
		}
	}
	for _, m := range allMessages() {
		fields := map[string]field{}
		for _, member := range m.members {
			fields[member.name()] = field{protoKinds[member.kind], member.number, member.presence}
		}
		described[m.ceType] = fields
	}
	require.Equal(t, declared, described)
}

// TestGoldenIsProtoJSON holds the canonical JSON to protobuf's own reader: it accepts every golden file,
// without unknown fields, and finds the values that a plain JSON reader finds.
func TestGoldenIsProtoJSON(t *testing.T) {
	files, err := filepath.Glob(goldenDir + "/*/*.json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), len(commandSamples)+len(eventSamples))
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		m := newProto(t, path.Base(path.Dir(file)))
		require.NoError(t, protojson.Unmarshal(data, m), file)

		var plain map[string]any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		require.NoError(t, d.Decode(&plain), file)
		fields := m.ProtoReflect().Descriptor().Fields()
		require.Len(t, plain, fields.Len(), file)
		for i := range fields.Len() {
			want := plain[fields.Get(i).JSONName()]
			if want == nil {
				want = ""
			}
			got := m.ProtoReflect().Get(fields.Get(i)).Interface()
			require.Equal(t, fmt.Sprint(want), fmt.Sprint(got), "%s: %s", file, fields.Get(i).Name())
		}
	}
}

// TestProtoJSONCommandsAreRead: a producer may use protobuf's own JSON, which leaves out an empty eta.
func TestProtoJSONCommandsAreRead(t *testing.T) {
	for name, want := range commandSamples {
		m := newProto(t, path.Dir(name))
		require.NoError(t, protojson.Unmarshal(AppendCommand(nil, &want), m))
		for _, unset := range []bool{false, true} {
			data, err := protojson.MarshalOptions{EmitUnpopulated: unset}.Marshal(m)
			require.NoError(t, err)
			got, err := DecodeCommand(path.Dir(name), ContentTypeJSON, data)
			require.NoError(t, err, "%s", data)
			require.Equal(t, want, got)
		}
	}
}

func newProto(t require.TestingT, fullName string) proto.Message {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(fullName))
	require.NoError(t, err)
	return mt.New().Interface()
}
