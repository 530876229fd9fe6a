// Package postgresclient is how every Lotline process learns where Postgres is:
// from the flags --postgres-url and --postgres-url-file, which the allocator and
// the operator's command have both.
//
// It opens no connection and imports the standard library only.
package postgresclient

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// ErrNoURL says that neither flag leads to a URL.
var ErrNoURL = errors.New("no Postgres is given: set --postgres-url or --postgres-url-file")

// URL returns the URL to connect to: what is in file, less the white space
// around it, or given if file is "". The URL may hold a password: log it
// Redacted. The error wraps ErrNoURL, or says that the file could not be read.
func URL(given, file string) (string, error) {
	if file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the file of --postgres-url-file: %w", err)
		}
		given = strings.TrimSpace(string(content))
		if given == "" {
			return "", fmt.Errorf("%w (the file %s is empty)", ErrNoURL, file)
		}
	}
	if given == "" {
		return "", ErrNoURL
	}
	return given, nil
}

// Redacted returns the URL for a log, without its passwords. What is no URL, as
// a DSN of keywords, may have one anywhere and is left out whole.
func Redacted(connURL string) string {
	u, err := url.Parse(connURL)
	if err != nil || u.Scheme == "" {
		return "(not a URL)"
	}
	query := u.Query()
	for _, secret := range []string{"password", "sslpassword"} {
		if query.Has(secret) {
			query.Set(secret, "xxxxx")
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}
