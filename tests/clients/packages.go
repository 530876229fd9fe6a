// Package clients has example clients in Python, TypeScript and Java, in a folder for each language, and says which
// packages they need.
//
// Its tests run them against Lotline on Apache Kafka: what they send is decided, all of them partition as Go does, and
// each consumer handles every event exactly once, through a kill, a redelivery and an aborted transaction. It imports the
// test servers and stack, and of the rest only what a client in Go would: the topics' names and the schemas. The command
// cmd/fetch calls Packages, so that no slow registry counts as a test's time.
package clients

import (
	"context"
	"embed"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"

	"github.com/lotline/lotline/tests/internal/cache"
)

//go:embed python/requirements.txt typescript/package.json typescript/package-lock.json java/pom.xml
var files embed.FS

// Packages are the cached folders of what the clients need, one a language.
func Packages(ctx context.Context) ([]cache.Folder, error) {
	python, err := pythonPackages(ctx)
	return []cache.Folder{python, typescriptPackages(), javaPackages()}, err
}

func pythonPackages(ctx context.Context) (cache.Folder, error) {
	version, err := exec.CommandContext(ctx, "python3", "-c", "import sys; print(sys.executable, sys.version)").Output()
	if err != nil {
		return cache.Folder{}, fmt.Errorf("the Python client needs python3, 3.11 or newer: %w", err)
	}
	return cache.Folder{
		Name: "python-clients",
		What: "the Python clients' packages (45 MB from PyPI)",
		// A virtual environment works with the interpreter that made it.
		Pins:  []cache.Pin{pin("python/requirements.txt"), {Name: "interpreter", Text: version}},
		Tools: []cache.Tool{{Command: "python3", Needs: "Python, 3.11 or newer, with venv (Debian: python3-venv)"}},
		Fill: func(ctx context.Context, dir string) error {
			if err := cache.Run(ctx, dir, "python3", "-m", "venv", "venv"); err != nil {
				return err
			}
			return cache.Run(ctx, dir, "venv/bin/pip", "install", "--quiet", "--only-binary", ":all:", "--require-hashes", "--requirement", "requirements.txt")
		},
	}, nil
}

func typescriptPackages() cache.Folder {
	return cache.Folder{
		Name:  "typescript-clients",
		What:  "the TypeScript clients' packages (40 MB from the npm registry)",
		Pins:  []cache.Pin{pin("typescript/package.json"), pin("typescript/package-lock.json")},
		Tools: []cache.Tool{{Command: "node", Needs: "Node.js (Debian: nodejs)"}, {Command: "npm", Needs: "npm (Debian: npm)"}},
		Fill: func(ctx context.Context, dir string) error {
			return cache.Run(ctx, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		},
	}
}

func javaPackages() cache.Folder {
	return cache.Folder{
		Name: "java-clients",
		What: "the Java clients' jars (22 MB from Maven Central)",
		Pins: []cache.Pin{pin("java/pom.xml")},
		Tools: []cache.Tool{
			{Command: "mvn", Needs: "Maven (Debian: maven)"},
			{Command: "javac", Needs: "a JDK, 17 or newer (Debian: default-jdk-headless)"},
		},
		Fill: func(ctx context.Context, dir string) error {
			return cache.Run(ctx, dir, "mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies",
				"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "libs"))
		},
	}
}

func pin(name string) cache.Pin {
	text, err := files.ReadFile(name)
	if err != nil {
		panic(err) // a fault in the names above, which every call would see
	}
	return cache.Pin{Name: path.Base(name), Text: text}
}
