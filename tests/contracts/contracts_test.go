package contracts

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/topics"
)

const (
	protoDir  = "../../schemas/proto"
	committed = "../../schemas/contracts"
	goldens   = "../../schemas/testdata/golden"
)

func TestDocumentsAreUpToDate(t *testing.T) {
	want, err := Generate(t.Context(), protoDir, topics.Declared("lotline"))
	require.NoError(t, err)
	got := map[string][]byte{}
	files, err := os.ReadDir(committed)
	require.NoError(t, err)
	for _, f := range files {
		got[f.Name()], err = os.ReadFile(filepath.Join(committed, f.Name()))
		require.NoError(t, err)
	}
	for name := range want {
		require.Equal(t, string(want[name]), string(got[name]), "%s is not what is generated now: run `make generate`", name)
	}
	require.Len(t, got, len(want), "files that are not generated any more: run `make generate`")
}

// schemaOf compiles a committed schema, with the formats as assertions.
func schemaOf(t *testing.T, ceType string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(committed, SchemaFile(ceType)))
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	require.NoError(t, c.AddResource(ceType, document))
	schema, err := c.Compile(ceType)
	require.NoError(t, err)
	require.Equal(t, 2020, schema.DraftVersion)
	return schema
}

// TestStructuredCommands: what is written in structured mode is what the AsyncAPI document says of it, and a command
// without its envelope is not.
func TestStructuredCommands(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(committed, AsyncAPIFile))
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource(AsyncAPIFile, document))
	schema, err := c.Compile(AsyncAPIFile + "#/components/messages/StructuredCommand/payload")
	require.NoError(t, err)
	const command = `{"orderid":"o","sku":"s","qty":1}`
	for _, contentType := range []string{schemas.ContentTypeJSON, schemas.ContentTypeProtobuf} {
		e := cloudevents.Envelope{ID: "1", Source: "/s", Type: schemas.CommandAllocate.CEType(), ContentType: contentType, TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
		headers, value := cloudevents.Structured(e, []byte(command))
		require.NoError(t, schema.Validate(instance(t, string(value))))
		_, _, err := cloudevents.Read(headers, value)
		require.NoError(t, err)
	}
	require.Error(t, schema.Validate(instance(t, command)))
	require.Error(t, schema.Validate(instance(t, `{"specversion":"1.0","type":"lotline.event.v1.Allocated","data":{}}`)))
	require.Error(t, schema.Validate(instance(t, `{"specversion":"1.0","type":"lotline.command.v1.Allocate","data":{},"data_base64":""}`)))
}

func instance(t *testing.T, text string) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err, text)
	return value
}

// TestGoldensAreValid: what is on the wire is what the schema says, and without any one of its required members, it is
// not.
func TestGoldensAreValid(t *testing.T) {
	folders, err := os.ReadDir(goldens)
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	for _, folder := range folders {
		ceType := folder.Name()
		schema := schemaOf(t, ceType)
		files, err := filepath.Glob(filepath.Join(goldens, ceType, "*.json"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, schema.Validate(instance(t, string(text))), file)
			for _, f := range schemas.Fields(ceType) {
				var members map[string]json.RawMessage
				require.NoError(t, json.Unmarshal(text, &members))
				members["unknown"] = json.RawMessage(`[1]`)
				delete(members, f.Name)
				less, err := json.Marshal(members)
				require.NoError(t, err)
				if err := schema.Validate(instance(t, string(less))); f.Optional {
					require.NoError(t, err, "%s without %s", file, f.Name)
				} else {
					require.Error(t, err, "%s without %s", file, f.Name)
				}
			}
		}
	}
}

// TestSchemasAndDecoderAgree: what one refuses the other does too.
func TestSchemasAndDecoderAgree(t *testing.T) {
	const (
		createBatch = "lotline.command.v1.CreateBatch"
		outOfStock  = "lotline.event.v1.OutOfStock"
		event       = `{"sku":"s","version":1,"commandid":"c","commandsource":"","seq":0,"last":true,"orderid":"o","qty":1,"available":0}`
	)
	for _, c := range []struct {
		ceType, text string
		good         bool
	}{
		{createBatch, `{"ref":"b","sku":"s","qty":1,"eta":null}`, true},
		{createBatch, `{"ref":"b","sku":"s","qty":1,"more":{}}`, true},
		{createBatch, `{"ref":"b","sku":"s","qty":3.0}`, true},
		{createBatch, `{"ref":"b","sku":"s","qty":1,"eta":"2028-02-29"}`, true},
		{createBatch, `{"ref":"b","sku":"s","qty":1,"eta":"2031-02-29"}`, false},
		{createBatch, `{"ref":"b","sku":"s","qty":1,"eta":"2031-1-2"}`, false},
		{createBatch, `{"ref":"b","sku":"s","qty":1,"eta":"2031-01-02T00:00:00Z"}`, false},
		{createBatch, `{"ref":"b","sku":"s","qty":1,"eta":20310102}`, false},
		{createBatch, `{"ref":"b","sku":"s","qty":2147483648}`, false},
		{createBatch, `{"ref":"b","sku":"s","qty":-2147483649}`, false},
		{createBatch, `{"ref":"b","sku":"s","qty":1.5}`, false},
		{createBatch, `{"ref":"b","sku":"s","qty":"1"}`, false},
		{createBatch, `{"ref":"b","sku":"s","qty":null}`, false},
		{createBatch, `{"ref":"","sku":"s","qty":1}`, false},
		{createBatch, `{"ref":"b","sku":"` + strings.Repeat("s", 255) + `","qty":1}`, true},
		{createBatch, `{"ref":"b","sku":"` + strings.Repeat("s", 256) + `","qty":1}`, false},
		{createBatch, `{"ref":"b\u0000","sku":"s","qty":1}`, false},
		{createBatch, `{"ref":"b\n","sku":"s","qty":1}`, false},
		{createBatch, `{"ref":"b\u0085","sku":"s","qty":1}`, false},
		{createBatch, `{"ref":"é\u00a0🪑","sku":"s","qty":1}`, true},
		{createBatch, `["b","s",1]`, false},
		{outOfStock, event, true},
		{outOfStock, strings.Replace(event, `"version":1`, `"version":18446744073709551615`, 1), true},
		{outOfStock, strings.Replace(event, `"version":1`, `"version":18446744073709551616`, 1), false},
		{outOfStock, strings.Replace(event, `"version":1`, `"version":-1`, 1), false},
		{outOfStock, strings.Replace(event, `"available":0`, `"available":-9223372036854775808`, 1), true},
		{outOfStock, strings.Replace(event, `"available":0`, `"available":-9223372036854775809`, 1), false},
		{outOfStock, strings.Replace(event, `"last":true`, `"last":"true"`, 1), false},
		{outOfStock, strings.Replace(event, `"commandid":"c"`, `"commandid":""`, 1), false},
	} {
		valid := schemaOf(t, c.ceType).Validate(instance(t, c.text))
		var read error
		if c.ceType == createBatch {
			_, read = schemas.DecodeCommand(c.ceType, schemas.ContentTypeJSON, []byte(c.text))
		} else {
			_, read = schemas.DecodeEvent(c.ceType, schemas.ContentTypeJSON, []byte(c.text))
		}
		require.Equal(t, c.good, valid == nil, "%s: the schema says %v", c.text, valid)
		require.Equal(t, c.good, read == nil, "%s: the decoder says %v", c.text, read)
	}
}
