// Package clickhouseclient is how every Lotline process reaches ClickHouse: the
// settings that operators give, and what the client's options take from them.
//
// Services embed Config in their own and add what is theirs (timeouts, pools,
// settings of queries) to Options. It imports the ClickHouse client only.
package clickhouseclient

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Config is what an operator says about ClickHouse. Embedded with the prefix
// "clickhouse-" its flags are --clickhouse-addrs, --clickhouse-database,
// --clickhouse-user and --clickhouse-password-file.
type Config struct {
	Addrs        []string `help:"Addresses (host:port, native protocol) of ClickHouse, separated by commas; the first that answers is used." default:"127.0.0.1:9000" placeholder:"HOST:PORT"`
	Database     string   `help:"Database of the read model." default:"lotline" placeholder:"NAME"`
	User         string   `help:"Name of the ClickHouse user." default:"default" placeholder:"NAME"`
	PasswordFile string   `help:"File that holds the user's password; empty = none." placeholder:"PATH"`
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
		}
	}
	if c.Database == "" {
		errs = append(errs, errors.New("the name of the ClickHouse database is empty: set --clickhouse-database"))
	}
	if c.User == "" {
		errs = append(errs, errors.New("the name of the ClickHouse user is empty: set --clickhouse-user"))
	}
	return errors.Join(errs...)
}

// Options returns the options that all clients share: where ClickHouse is, and
// who asks. The caller owns them and adds its own. Each call reads the password
// file, less the line breaks at its end; the error says that it could not.
func (c Config) Options() (*clickhouse.Options, error) {
	var password string
	if c.PasswordFile != "" {
		content, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("read the file of --clickhouse-password-file: %w", err)
		}
		password = strings.TrimRight(string(content), "\r\n")
	}
	return &clickhouse.Options{
		Addr: c.Addrs,
		Auth: clickhouse.Auth{Database: c.Database, Username: c.User, Password: password},
	}, nil
}
