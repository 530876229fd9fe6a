// Package postgresclient is how every Lotline process learns where Postgres is
// and how to log in there, from the same flags.
//
// The allocator and the operator's command embed Settings. It opens no connection
// and imports pkg/credentials and the Postgres client, for parsing.
package postgresclient

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotline/lotline/pkg/credentials"
)

// PasswordVariable is the environment variable that holds the password where no
// file does.
const PasswordVariable = "LOTLINE_POSTGRES_PASSWORD" //nolint:gosec // its name, not a password

// connectTimeoutSeconds is how long one host has to let somebody in, unless the URL or PGCONNECT_TIMEOUT says otherwise: the client would
// wait for ever for one that takes the connection and says nothing, as a host that ran out of memory does.
const connectTimeoutSeconds = 10

var errURL = errors.New("it is not of the form postgres://user@host:5432/database?setting=value (a character such as @ or / in a name or password is written %40, %2F), or a setting has no such value")

// ErrNoURL says that neither flag leads to a URL.
var ErrNoURL = errors.New("no Postgres is given")

// Settings are what an operator says about Postgres. Embedded without a prefix its
// flags are --postgres-url, --postgres-url-file and --postgres-password-file.
type Settings struct {
	PostgresURL          string `name:"postgres-url" help:"Where the state is: a postgres:// URL without a password. For TLS that checks the server's certificate and name, add ?sslmode=verify-full&sslrootcert=PATH." default:"postgres://lotline@127.0.0.1:5432/lotline" placeholder:"URL"`
	PostgresURLFile      string `name:"postgres-url-file" help:"File that holds the Postgres URL; overrides --postgres-url. It may have the password in it." placeholder:"PATH"`
	PostgresPasswordFile string `name:"postgres-password-file" help:"File with the user's password; empty = the one in the URL, or in the variable LOTLINE_POSTGRES_PASSWORD, or in PGPASSFILE. Files are read again for each connection." placeholder:"PATH"`
}

// Validate names every fault of the configuration, a sentence each, and holds no
// password. It reads the files.
func (s Settings) Validate() error {
	_, err := s.ConnURL()
	return err
}

// ConnURL returns the URL to connect to, which may hold the password: log it
// Redacted. It bounds how long connecting may take. The files are read at each call.
func (s Settings) ConnURL() (string, error) {
	return Source{
		Flags: "postgres", URL: s.PostgresURL, URLFile: s.PostgresURLFile,
		PasswordFile: s.PostgresPasswordFile, PasswordVariable: PasswordVariable,
	}.ConnURL()
}

// Source is where one URL comes from, for settings whose flags have other names
// than those of Settings.
type Source struct {
	Flags                      string // what the flags begin with: "postgres" of --postgres-url
	URL, URLFile, PasswordFile string // as in Settings
	PasswordVariable           string // environment variable that holds the password where no file does
}

// ConnURL is that of Settings.
func (s Source) ConnURL() (string, error) {
	given, err := s.url()
	password, passwordErr := credentials.PasswordOr(s.Flags+"-password-file", s.PasswordFile, s.PasswordVariable)
	if err := errors.Join(err, passwordErr); err != nil {
		return "", err
	}
	if given, err = withPassword(given, password); err != nil {
		return "", err
	}
	config, err := pgconn.ParseConfig(given)
	if u, parseErr := url.Parse(given); parseErr == nil && strings.ContainsRune(u.Path+u.Fragment, '@') {
		err = errURL // of a password with a / or # in it, the first part was taken for a port
	}
	if err != nil {
		return "", fmt.Errorf("use the Postgres URL %s: %w", Redacted(given), reason(err))
	}
	if config.ConnectTimeout == 0 && !strings.Contains(given, "connect_timeout") && os.Getenv("PGCONNECT_TIMEOUT") == "" {
		given = withConnectTimeout(given)
	}
	return given, nil
}

// withConnectTimeout adds a timeout to what can be parsed and has none. It changes nothing else of the text, and comes first: what is
// behind it may be a keyword without a value.
func withConnectTimeout(given string) string {
	setting := fmt.Sprintf("connect_timeout=%d", connectTimeoutSeconds)
	if !strings.HasPrefix(given, "postgres://") && !strings.HasPrefix(given, "postgresql://") {
		return setting + " " + given
	}
	address, query, has := strings.Cut(given, "?")
	if has {
		return address + "?" + setting + "&" + query
	}
	if strings.Contains(given, "#") {
		return given // which the client takes for a part of the last setting
	}
	return given + "?" + setting
}

func (s Source) url() (string, error) {
	noURL := fmt.Errorf("%w: set --%s-url or --%[2]s-url-file", ErrNoURL, s.Flags)
	if s.URLFile == "" {
		if s.URL == "" {
			return "", noURL
		}
		return s.URL, nil
	}
	content, err := os.ReadFile(s.URLFile)
	if err != nil {
		return "", fmt.Errorf("read the file of --%s-url-file: %w", s.Flags, err)
	}
	given := strings.TrimSpace(string(content))
	if given == "" {
		return "", fmt.Errorf("%w (the file %s is empty)", noURL, s.URLFile)
	}
	return given, nil
}

// withPassword adds the password to a URL that has none.
func withPassword(given, password string) (string, error) {
	if password == "" {
		return given, nil
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme == "" {
		return "", errors.New("with a password in a file or a variable of its own, Postgres has to be given as a URL: postgres://user@host:5432/database")
	}
	query := u.Query()
	if _, has := u.User.Password(); has || query.Has("password") {
		return "", errors.New("the Postgres password is given twice, in the URL and apart from it: take it out of the URL")
	}
	if u.User != nil {
		u.User = url.UserPassword(u.User.Username(), password)
	} else { // the user is in the query, or is PGUSER
		query.Set("password", password)
		u.RawQuery = query.Encode()
	}
	return u.String(), nil
}

// WithSetting returns a URL of ConnURL with a setting of the session, such as
// search_path.
func WithSetting(connURL, name, value string) (string, error) {
	u, err := url.Parse(connURL)
	if err != nil || u.Scheme == "" {
		return "", errURL
	}
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// reason says what is wrong with a URL and repeats nothing of it: in what could
// not be parsed, nobody can tell where a password begins.
func reason(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) { // of a certificate
		return file
	}
	return errURL
}

// Redacted returns the URL for a log, without its passwords. What is no URL, as
// a DSN of keywords, may have one anywhere and is left out whole.
func Redacted(connURL string) string {
	u, err := url.Parse(connURL)
	if err != nil || u.Scheme == "" || strings.ContainsRune(u.Path+u.RawQuery+u.Fragment, '@') { // @: a password that was not escaped
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
