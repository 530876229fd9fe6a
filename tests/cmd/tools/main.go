// Command tools prints where a development tool is, after building it once into the user's cache directory:
//
//	"$(go run ./tests/cmd/tools buf)" lint
//
// The Makefile calls it. A tool is built apart from the modules of this repository, whose dependencies it would change.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/internal/cache"
)

var packages = map[string]string{
	"buf":           "github.com/bufbuild/buf/cmd/buf@v1.75.0",
	"golangci-lint": "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0",
}

func main() {
	var flags struct {
		Tool string `arg:"" enum:"buf,golangci-lint" help:"buf or golangci-lint."`
	}
	kong.Parse(&flags, kong.Name("tools"), kong.Description("Prints where a development tool is, after building it once."))
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	dir, err := folder(flags.Tool).Dir(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tools:", err)
		os.Exit(1)
	}
	fmt.Println(filepath.Join(dir, flags.Tool))
}

func folder(tool string) cache.Folder {
	return cache.Folder{
		Name:  tool,
		What:  packages[tool] + " (built from source, which takes minutes)",
		Pins:  []cache.Pin{{Name: "version", Text: []byte(packages[tool])}},
		Tools: []cache.Tool{{Command: "go", Needs: "Go"}},
		Fill: func(ctx context.Context, dir string) error {
			cmd := exec.CommandContext(ctx, "go", "install", packages[tool])
			cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOWORK=off", "GOFLAGS=")
			cmd.Dir, cmd.Stderr = dir, os.Stderr
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("go install %s: %w", packages[tool], err)
			}
			return nil
		},
	}
}
