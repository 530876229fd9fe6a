// Package cache holds what is downloaded or built once for tests and development: folders in the user's cache
// directory, outside any checkout, each made by one process while others wait.
//
// tests/servers keeps server binaries in it and tests/cmd/tools development tools. It imports nothing of this
// repository.
package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/adrg/xdg"
	"github.com/gofrs/flock"
)

const fillWithin = 20 * time.Minute

// Folder is a folder of the cache, named by the hash of what pins its contents.
type Folder struct {
	Name  string // a part of the folder's name
	What  string // what it holds and where that comes from, for people
	Pins  []Pin  // are written into the folder, and hashed
	Tools []Tool // what Fill runs
	Fill  func(ctx context.Context, dir string) error
}

// Pin is a file that says which versions a folder holds.
type Pin struct {
	Name string
	Text []byte
}

// Tool is a command that has to be installed, and the words in which to ask for it.
type Tool struct{ Command, Needs string }

// Dir returns the folder, after filling it if it is not complete; several processes may ask at once.
func (f Folder) Dir(ctx context.Context) (string, error) {
	hash := sha256.New()
	for _, pin := range f.Pins {
		hash.Write(pin.Text)
	}
	dir := filepath.Join(cacheHome(), "lotline", fmt.Sprintf("%s-%s-%s-%x", f.Name, runtime.GOOS, runtime.GOARCH, hash.Sum(nil)[:8]))
	done := filepath.Join(dir, ".complete")
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, fillWithin)
	defer cancel()
	lock := flock.New(dir + ".lock")
	if _, err := lock.TryLockContext(ctx, time.Second); err != nil {
		return "", fmt.Errorf("wait for another process to fetch %s: %w", f.What, err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	if err := f.make(ctx, dir); err != nil {
		return "", fmt.Errorf("fetch %s: %w", f.What, err)
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

func (f Folder) make(ctx context.Context, dir string) error {
	if err := f.CheckTools(); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	for _, pin := range f.Pins {
		if err := os.WriteFile(filepath.Join(dir, pin.Name), pin.Text, 0o644); err != nil {
			return err
		}
	}
	start := time.Now()
	fmt.Fprintf(os.Stderr, "Fetching %s to %s, once.\n", f.What, dir)
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	filled := make(chan error, 1)
	go func() { filled <- f.Fill(ctx, dir) }()
	for {
		select {
		case err := <-filled:
			if err == nil {
				fmt.Fprintf(os.Stderr, "Fetched in %s.\n", time.Since(start).Round(time.Second))
			}
			return err
		case <-ticker.C:
			fmt.Fprintf(os.Stderr, "  … %s so far\n", time.Since(start).Round(time.Second))
		}
	}
}

// CheckTools says in a sentence each what is missing and how to get it.
func (f Folder) CheckTools() error {
	var errs []error
	for _, t := range f.Tools {
		if _, err := exec.LookPath(t.Command); err != nil {
			errs = append(errs, fmt.Errorf("the command %q was not found: install %s", t.Command, t.Needs))
		}
	}
	return errors.Join(errs...)
}

// Run runs a command in a directory, with its output on stderr.
func Run(ctx context.Context, dir, command string, args ...string) error {
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", command, args[0], err)
	}
	return nil
}
