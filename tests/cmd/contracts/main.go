// Command contracts writes the JSON Schemas and the AsyncAPI document of the wire into schemas/contracts.
//
// `make generate` calls it, from the top of the repository.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/contracts"
	"github.com/lotline/lotline/topics"
)

func main() {
	var flags struct {
		Proto string `default:"schemas/proto" help:"Folder of the .proto files."`
		Out   string `default:"schemas/contracts" help:"Folder to write into; what else is in it is removed."`
	}
	kong.Parse(&flags, kong.Name("contracts"), kong.Description("Writes JSON Schemas and an AsyncAPI document of the wire."))
	if err := write(flags.Proto, flags.Out); err != nil {
		fmt.Fprintln(os.Stderr, "contracts:", err)
		os.Exit(1)
	}
}

func write(protoDir, out string) error {
	documents, err := contracts.Generate(context.Background(), protoDir, topics.Declared("lotline"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return fmt.Errorf("empty the folder: %w", err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	for name, text := range documents {
		if err := os.WriteFile(filepath.Join(out, name), text, 0o644); err != nil {
			return fmt.Errorf("write a document: %w", err)
		}
	}
	return nil
}
