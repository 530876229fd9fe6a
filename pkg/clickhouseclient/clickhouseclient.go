// Package clickhouseclient is how every Lotline process reaches ClickHouse: the
// settings that operators give, and what the client's options take from them.
//
// Services embed Config in their own and add what is theirs (timeouts, pools,
// settings of queries) to Options. It imports pkg/credentials and the ClickHouse
// client.
package clickhouseclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/lotline/lotline/pkg/credentials"
)

// PasswordVariable is the environment variable that holds the password where no
// file does.
const PasswordVariable = "LOTLINE_CLICKHOUSE_PASSWORD" //nolint:gosec // its name, not a password

const flagPrefix = "clickhouse-"

// Config is what an operator says about ClickHouse. Embedded with the prefix
// "clickhouse-" its flags are --clickhouse-addrs, --clickhouse-database,
// --clickhouse-user, --clickhouse-password-file, and --clickhouse-tls with those
// of its files.
type Config struct {
	Addrs           []string `help:"Addresses (host:port, native protocol) of ClickHouse, separated by commas; the first that answers is used." default:"127.0.0.1:9000" placeholder:"HOST:PORT"`
	Database        string   `help:"Database of the read model." default:"lotline" placeholder:"NAME"`
	User            string   `help:"Name of the ClickHouse user." default:"default" placeholder:"NAME"`
	PasswordFile    string   `help:"File with the user's password; empty = the variable LOTLINE_CLICKHOUSE_PASSWORD, or no password. This file and those of TLS are read again for each connection." placeholder:"PATH"`
	credentials.TLS `embed:""`
}

// Validate names every fault of the configuration, a sentence each.
func (c Config) Validate() error {
	var errs []error
	if len(c.Addrs) == 0 {
		errs = append(errs, errors.New("no ClickHouse server is given: set --clickhouse-addrs or LOTLINE_CLICKHOUSE_ADDRS to host:port"))
	}
	for _, addr := range c.Addrs {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("the ClickHouse server %q is not an address of the form host:port", addr))
		} else if strings.ContainsFunc(addr, unicode.IsSpace) { // which would be looked up, in vain, as a part of the name
			errs = append(errs, fmt.Errorf("the ClickHouse server %q has a space in it: leave out spaces between addresses", addr))
		}
	}
	if c.Database == "" {
		errs = append(errs, errors.New("the name of the ClickHouse database is empty: set --clickhouse-database"))
	}
	if c.User == "" {
		errs = append(errs, errors.New("the name of the ClickHouse user is empty: set --clickhouse-user"))
	}
	_, err := c.password()
	errs = append(errs, err)
	if c.On() {
		_, err := c.ClientTLS(flagPrefix)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Config) password() (string, error) {
	return credentials.PasswordOr(flagPrefix+"password-file", c.PasswordFile, PasswordVariable)
}

// Options returns the options that all clients share: where ClickHouse is, and
// who asks. The caller owns them and adds its own. Each call reads the password;
// the error says that it could not. Password and certificates are read again for
// each connection of clickhouse.Open, so that they can be replaced while the
// process runs.
func (c Config) Options() (*clickhouse.Options, error) {
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	opts := &clickhouse.Options{
		Addr: c.Addrs,
		Auth: clickhouse.Auth{Database: c.Database, Username: c.User, Password: password},
		DialStrategy: func(ctx context.Context, id int, opts *clickhouse.Options, dial clickhouse.Dial) (clickhouse.DialResult, error) {
			now := *opts // of all connections, which are made side by side
			var err error
			if now.Auth.Password, err = c.password(); err != nil {
				return clickhouse.DialResult{}, err
			}
			return clickhouse.DefaultDialStrategy(ctx, id, &now, dial)
		},
	}
	if c.On() {
		opts.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
			config, err := c.ClientTLS(flagPrefix)
			if err != nil {
				return nil, err
			}
			dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: opts.DialTimeout}, Config: config}
			return dialer.DialContext(ctx, "tcp", addr)
		}
	}
	return opts, nil
}
