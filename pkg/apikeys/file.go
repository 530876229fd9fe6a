package apikeys

import (
	"context"
	"errors"
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
	content, err := read(path)
	if err != nil {
		return nil, err
	}
	return parse(path, content)
}

func read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the API keys: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return "", fmt.Errorf("read the API keys: %w", err)
	}
	if len(content) > fileBytesMax {
		return "", fmt.Errorf("the file of API keys, %s, has more than %d bytes: is it the right one?", path, fileBytesMax)
	}
	return string(content), nil
}

func parse(path, content string) (Set, error) {
	set, err := Parse(content)
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

// Run takes in every change of the file within seconds, until ctx ends; then it returns nil. A file that cannot be
// read, or has a fault, is named in the log, and the keys from before go on. One that has no key any more takes all of them back, once it
// was found so twice: somebody may be writing it.
//
// It reads the file each time, and compares what it says. A new file in its place may have
// the same time and size; and one that could not be opened for a moment has not changed when it can be.
func (f *File) Run(ctx context.Context) error {
	var seen look
	none := false
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		content, err := read(f.path)
		if now := (look{content, fmt.Sprint(err)}); now != seen {
			seen = now
			none = f.take(content, err)
		} else if none {
			none = false
			f.set.Store(&Set{})
			f.log.Warn("all API keys are taken back: their file has none any more")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look is what the file said, or why it could not be read.
type look struct{ content, err string }

// take takes in what was read, and says whether that has no key, and no fault.
func (f *File) take(content string, err error) (none bool) {
	var set Set
	if err == nil {
		set, err = parse(f.path, content)
	}
	if err != nil {
		f.log.Error("the API keys could not be read again; those from before go on", "error", err)
		return errors.Is(err, errNoKey)
	}
	f.set.Store(&set)
	f.log.Info("API keys read", "keys", len(set))
	return false
}
