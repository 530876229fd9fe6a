// Package api holds the tests that use the gateway's HTTP API as shops do, on a whole pipeline: what was said once is
// said again, answers are never older than their token, servers go away, caches stand in front, and a program makes up
// requests from the API's description. They import the test servers, the stack and the gateway's root. The command cmd/fetch
// calls Schemathesis, so that no slow registry counts as a test's time.
package api

import (
	"context"
	_ "embed"
	"fmt"
	"os/exec"

	"github.com/lotline/lotline/tests/internal/cache"
)

//go:embed schemathesis.txt
var schemathesisPins []byte

// Schemathesis is the folder of the program that tests an HTTP API against its description.
func Schemathesis(ctx context.Context) (cache.Folder, error) {
	version, err := exec.CommandContext(ctx, "python3", "-c", "import sys; print(sys.executable, sys.version)").Output()
	if err != nil {
		return cache.Folder{}, fmt.Errorf("schemathesis needs python3, 3.11 or newer: %w", err)
	}
	return cache.Folder{
		Name: "schemathesis",
		What: "schemathesis (60 MB from PyPI)",
		// A virtual environment works with the interpreter that made it.
		Pins:  []cache.Pin{{Name: "schemathesis.txt", Text: schemathesisPins}, {Name: "interpreter", Text: version}},
		Tools: []cache.Tool{{Command: "python3", Needs: "Python, 3.11 or newer, with venv (Debian: python3-venv)"}},
		Fill: func(ctx context.Context, dir string) error {
			if err := cache.Run(ctx, dir, "python3", "-m", "venv", "venv"); err != nil {
				return err
			}
			return cache.Run(ctx, dir, "venv/bin/pip", "install", "--quiet", "--only-binary", ":all:", "--require-hashes", "--requirement", "schemathesis.txt")
		},
	}, nil
}
