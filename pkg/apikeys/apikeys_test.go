package apikeys

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAKeyIsFoundByItsText(t *testing.T) {
	shop, shopLine, err := New("shop", Read, Write)
	require.NoError(t, err)
	boss, bossLine, err := New("boss", Admin)
	require.NoError(t, err)
	require.NotEqual(t, shop, boss)
	require.Regexp(t, `^lotline_[A-Za-z0-9_-]{43}$`, shop)
	require.NotContains(t, shopLine, shop[len(prefix):])
	set, err := Parse("# people\n\n" + shopLine + "\n" + bossLine + " # the boss\n")
	require.NoError(t, err)
	require.Len(t, set, 2)

	key, ok := set.Find(shop)
	require.True(t, ok)
	require.Equal(t, "shop", key.Name)
	require.True(t, key.May(Read) && key.May(Write))
	require.False(t, key.May(Admin))
	key, ok = set.Find(boss)
	require.True(t, ok)
	require.True(t, key.May(Read) && key.May(Write) && key.May(Admin))
	for _, other := range []string{"", "lotline_", shop + "A", strings.ToUpper(shop), strings.TrimPrefix(shopLine, "shop read,write ")} {
		_, ok = set.Find(other)
		require.False(t, ok, other)
	}
	require.False(t, Key{Scopes: []Scope{Write}}.May(Read))
}

func TestFaultsAreNamedByLine(t *testing.T) {
	secret, line, err := New("shop", Read)
	require.NoError(t, err)
	hash := strings.Fields(line)[2]
	_, err = Parse(strings.Join([]string{
		line, secret, "a/b read " + hash, "x lookup " + hash, "y read md5:0", "z read sha256:00", "shop write sha256:" + strings.Repeat("0", 64), "again read " + hash, "n  " + hash,
	}, "\n"))
	for _, fault := range []string{
		"line 2: it is not of the form", "line 3: the name", "line 4: the scopes", "line 5: the hash", "line 6: the hash",
		"line 7: the name or the key is that of a line before", "line 8: the name or the key", "line 9: it is not of the form",
	} {
		require.ErrorContains(t, err, fault)
	}
	require.NotContains(t, err.Error(), secret)
	require.NotContains(t, err.Error(), "line 1:")
	_, err = Parse("# nobody\n")
	require.ErrorContains(t, err, "it has no key")
	_, _, err = New("a b", Read)
	require.ErrorContains(t, err, "of the form")
	_, _, err = New("a")
	require.Error(t, err)
}

// logs is a log that a test reads while it is written.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// watched is a file with that line, which is read again until the test ends, and what is said of it. It has been read once.
func watched(t *testing.T, line string) (path string, has func(text string) bool, log *logs) {
	t.Helper()
	path, log = filepath.Join(t.TempDir(), "keys"), new(logs)
	require.NoError(t, os.WriteFile(path, []byte(line), 0o600))
	file, err := Open(path, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- file.Run(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-done) })
	require.Eventually(t, func() bool { return log.has("API keys read") }, 10*time.Second, 10*time.Millisecond)
	return path, func(text string) bool { _, ok := file.Find(text); return ok }, log
}

// replace puts a new file with that line in the place of the one at path, with its time.
func replace(t *testing.T, path, line string) {
	t.Helper()
	before, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", []byte(line), 0o600))
	require.NoError(t, os.Chtimes(path+".new", before.ModTime(), before.ModTime()))
	require.NoError(t, os.Rename(path+".new", path))
}

func TestChangesAreTakenIn(t *testing.T) {
	first, firstLine, err := New("first", Read)
	require.NoError(t, err)
	second, secondLine, err := New("second", Read)
	require.NoError(t, err)
	path, has, log := watched(t, firstLine)
	write := func(content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	require.True(t, has(first))

	write(firstLine + "\n" + secondLine)
	require.Eventually(t, func() bool { return has(second) }, 10*time.Second, 10*time.Millisecond)
	write("nonsense " + second)
	require.Eventually(t, func() bool { return log.has("those from before go on") }, 10*time.Second, 10*time.Millisecond)
	require.False(t, log.has(second))
	require.True(t, has(first) && has(second), "a slip of the pen locks nobody out")
	require.NoError(t, os.Remove(path))
	require.Eventually(t, func() bool { return log.has("no such file") }, 10*time.Second, 10*time.Millisecond)
	require.True(t, has(first))
	write(secondLine)
	require.Eventually(t, func() bool { return !has(first) && has(second) }, 10*time.Second, 10*time.Millisecond, "taken back")
}

func TestTheOnlyKeyIsTakenBack(t *testing.T) {
	text, line, err := New("shop", Admin)
	require.NoError(t, err)
	path, has, _ := watched(t, line)
	require.True(t, has(text))
	require.NoError(t, os.WriteFile(path, []byte("# nobody\n"), 0o600))
	require.Eventually(t, func() bool { return !has(text) }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, os.WriteFile(path, []byte(line), 0o600))
	require.Eventually(t, func() bool { return has(text) }, 10*time.Second, 10*time.Millisecond)
}

// A new key is as long as the one before, and files from one archive have one time.
func TestAFileOfTheSameTimeAndSizeIsTakenIn(t *testing.T) {
	before, line, err := New("shop", Read)
	require.NoError(t, err)
	after, newLine, err := New("shop", Read)
	require.NoError(t, err)
	path, has, _ := watched(t, line)
	replace(t, path, newLine)
	require.Eventually(t, func() bool { return has(after) && !has(before) }, 10*time.Second, 10*time.Millisecond)
}

// For a moment the process may open no file.
func TestAFileThatCouldNotBeOpenedIsTriedAgain(t *testing.T) {
	before, line, err := New("shop", Read)
	require.NoError(t, err)
	after, newLine, err := New("customer", Read)
	require.NoError(t, err)
	path, has, log := watched(t, line)
	require.NoError(t, os.WriteFile(path+".new", []byte(newLine), 0o600))
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1, Max: limit.Max}))
	defer func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) }()
	require.NoError(t, os.Rename(path+".new", path))
	require.Eventually(t, func() bool { return log.has("too many open files") }, 10*time.Second, 10*time.Millisecond)
	require.True(t, has(before))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.Eventually(t, func() bool { return has(after) && !has(before) }, 10*time.Second, 10*time.Millisecond)
}

func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "none"), slog.Default())
	require.ErrorContains(t, err, "read the API keys")
	_, err = Load(dir)
	require.ErrorContains(t, err, "read the API keys")
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, bytes.Repeat([]byte("#"), fileBytesMax+1), 0o600))
	_, err = Load(large)
	require.ErrorContains(t, err, "is it the right one?")
}

func FuzzParse(f *testing.F) {
	_, line, err := New("shop", Read, Admin)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add("# nothing\n a b c")
	f.Fuzz(func(t *testing.T, content string) {
		set, err := Parse(content)
		if err == nil {
			require.NotEmpty(t, set)
			_, ok := set.Find(content)
			require.False(t, ok)
		}
	})
}
