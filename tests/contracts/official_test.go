//go:build integration

package contracts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// TestAsyncAPIIsValid holds the committed document to AsyncAPI's own schema, Kafka bindings included, and shows that
// the schema refuses what is wrong.
func TestAsyncAPIIsValid(t *testing.T) {
	dir, err := Specs.Dir(t.Context())
	require.NoError(t, err)
	file, err := os.Open(filepath.Join(dir, "node_modules", "@asyncapi", "specs", "schemas", "3.0.0.json"))
	require.NoError(t, err)
	defer file.Close()
	official, err := jsonschema.UnmarshalJSON(file)
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("asyncapi.json", official))
	schema, err := c.Compile("asyncapi.json")
	require.NoError(t, err)

	text, err := os.ReadFile(filepath.Join(committed, AsyncAPIFile))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(instance(t, string(text))))

	for name, spoil := range map[string]func(document map[string]any){
		"no version":         func(d map[string]any) { delete(d, "asyncapi") },
		"an unknown action":  func(d map[string]any) { at(d, "operations", "sendEvents")["action"] = "publish" },
		"a payload's type":   func(d map[string]any) { at(d, "components", "messages", "Allocate", "payload")["type"] = "record" },
		"partitions as text": func(d map[string]any) { at(d, "channels", "events", "bindings", "kafka")["partitions"] = "12" },
		"an unknown setting": func(d map[string]any) { at(d, "channels", "events", "bindings", "kafka")["replicants"] = 3 },
		"a retention as text": func(d map[string]any) {
			at(d, "channels", "events", "bindings", "kafka", "topicConfiguration")["retention.ms"] = "1"
		},
	} {
		var document map[string]any
		require.NoError(t, json.Unmarshal(text, &document))
		spoil(document)
		spoiled, err := json.Marshal(document)
		require.NoError(t, err)
		require.Error(t, schema.Validate(instance(t, string(spoiled))), name)
	}
}

// at follows names into a document.
func at(document map[string]any, names ...string) map[string]any {
	for _, name := range names {
		document = document[name].(map[string]any)
	}
	return document
}
