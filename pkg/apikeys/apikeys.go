// Package apikeys is who may use the HTTP API: keys, each with a name and scopes, in a file that holds their hashes only.
//
// The gateway checks keys with it and the operator's command makes them. It imports the standard library only.
//
// The file has a key a line, its name, its scopes and the SHA-256 of its text, and comments after #:
//
//	shop  read,write  sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  # the web shop
//
// A key is 32 random bytes, so a plain hash is enough: there is nothing to guess.
package apikeys

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Scope is what a key allows.
type Scope string

// The scopes. Admin allows all that the others do; write does not allow to read.
const (
	Read  Scope = "read"  // questions
	Write Scope = "write" // commands
	Admin Scope = "admin" // operations, as replaying dead letters
)

const (
	prefix  = "lotline_" // by which scanners find a key where none should be
	keysMax = 1000       // of a file: each is compared with
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Key is one key without its text.
type Key struct {
	Name   string
	Scopes []Scope
	hash   [sha256.Size]byte
}

// May reports whether the key allows what needs the scope.
func (k Key) May(scope Scope) bool {
	return slices.Contains(k.Scopes, scope) || slices.Contains(k.Scopes, Admin)
}

// New makes a key. The text is for whoever is to use it, and nowhere else; the line is for the file.
func New(name string, scopes ...Scope) (text, line string, err error) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	text = prefix + base64.RawURLEncoding.EncodeToString(secret)
	hash := sha256.Sum256([]byte(text))
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	line = fmt.Sprintf("%s %s sha256:%s", name, strings.Join(names, ","), hex.EncodeToString(hash[:]))
	_, err = parseLine(line)
	return text, line, err
}

var errNoKey = errors.New("it has no key, so that nobody could ask anything: `lotline keys new` makes one")

// Set is the keys of a file.
type Set []Key

// Parse reads a file. The error names every fault by its line and quotes nothing: what is wrong may be a key.
func Parse(content string) (Set, error) {
	var set Set
	var errs []error
	number := 0
	for line := range strings.Lines(content) {
		number++
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, err := parseLine(line)
		if err == nil && slices.ContainsFunc(set, func(k Key) bool { return k.Name == key.Name || k.hash == key.hash }) {
			err = errors.New("the name or the key is that of a line before")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		set = append(set, key)
	}
	switch {
	case len(set) == 0 && len(errs) == 0:
		errs = append(errs, errNoKey)
	case len(set) > keysMax:
		errs = append(errs, fmt.Errorf("it has %d keys, and at most %d are possible", len(set), keysMax))
	}
	return set, errors.Join(errs...)
}

func parseLine(line string) (Key, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return Key{}, errors.New("it is not of the form NAME SCOPES sha256:HASH")
	}
	key := Key{Name: fields[0]}
	if !validName.MatchString(key.Name) {
		return Key{}, errors.New("the name is not 1 to 64 letters, digits, dots, dashes and underscores")
	}
	for scope := range strings.SplitSeq(fields[1], ",") {
		if !slices.Contains([]Scope{Read, Write, Admin}, Scope(scope)) {
			return Key{}, errors.New("the scopes are not some of read, write and admin, with commas between")
		}
		key.Scopes = append(key.Scopes, Scope(scope))
	}
	text, ok := strings.CutPrefix(fields[2], "sha256:")
	hash, err := hex.DecodeString(text)
	if !ok || err != nil || len(hash) != len(key.hash) {
		return Key{}, errors.New("the hash is not sha256: and 64 hexadecimal digits")
	}
	copy(key.hash[:], hash)
	return key, nil
}

// Find returns the key of that text. How long it takes says nothing about the keys.
func (s Set) Find(text string) (found Key, ok bool) {
	hash := sha256.Sum256([]byte(text))
	for _, key := range s {
		if subtle.ConstantTimeCompare(hash[:], key.hash[:]) == 1 {
			found, ok = key, true
		}
	}
	return found, ok
}
