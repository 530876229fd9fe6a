package contracts

import (
	"context"
	_ "embed"

	"github.com/lotline/lotline/tests/internal/cache"
)

var (
	//go:embed package.json
	packageJSON []byte
	//go:embed package-lock.json
	packageLock []byte
)

// Specs is the cached folder of AsyncAPI's own schemas, to which a test holds the document.
var Specs = cache.Folder{
	Name:  "asyncapi",
	What:  "AsyncAPI's schemas (7 MB from the npm registry)",
	Pins:  []cache.Pin{{Name: "package.json", Text: packageJSON}, {Name: "package-lock.json", Text: packageLock}},
	Tools: []cache.Tool{{Command: "npm", Needs: "npm (Debian: npm)"}},
	Fill: func(ctx context.Context, dir string) error {
		return cache.Run(ctx, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	},
}
