package apikeys

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

const (
	lookInterval = time.Second
	fileBytesMax = 1 << 20
)

// File is the keys of a file, as it is now. Its methods may be called concurrently.
type File struct {
	path string
	log  *slog.Logger
	set  atomic.Pointer[Set]
}

// Load reads a file. The error names it, and holds nothing of what is in it.
func Load(path string) (Set, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the API keys: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the API keys: %w", err)
	}
	if len(content) > fileBytesMax {
		return nil, fmt.Errorf("the file of API keys, %s, has more than %d bytes: is it the right one?", path, fileBytesMax)
	}
	set, err := Parse(string(content))
	if err != nil {
		return nil, fmt.Errorf("the file of API keys, %s, cannot be used: %w", path, err)
	}
	return set, nil
}

// Open reads the keys for the first time.
func Open(path string, log *slog.Logger) (*File, error) {
	set, err := Load(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, log: log}
	f.set.Store(&set)
	return f, nil
}

// Find returns the key of that text; see Set.Find.
func (f *File) Find(text string) (Key, bool) { return f.set.Load().Find(text) }

// Run takes in every change of the file within a second or so, until ctx ends; then it returns nil. A file that cannot be
// read, or has a fault, is named in the log, and the keys from before go on.
func (f *File) Run(ctx context.Context) error {
	var seen string
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		if now := state(f.path); now != seen {
			seen = now
			if set, err := Load(f.path); err != nil {
				f.log.Error("the API keys could not be read again; those from before go on", "error", err)
			} else {
				f.set.Store(&set)
				f.log.Info("API keys read", "keys", len(set))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// state changes when the file does: a new file in its place has another time, or another size at least.
func state(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size())
}
