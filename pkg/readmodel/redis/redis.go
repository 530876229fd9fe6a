// Package redis is the read model in Redis: hashes that hold an answer each, kept by scripts that compare versions.
//
// It is a store of readmodel, and may import readmodel, pkg and the Redis client. The projector writes by its Writer, the
// gateway asks by its Reader, and the operator's command rebuilds by its Generations. There is nothing to migrate. One server (with replicas, if you like), not a cluster: a
// script's keys would be on several.
//
// Keys begin with the prefix and the generation:
//
//	lotline:g1:order:ORDERID  hash  SKU -> "version qty eta ref", of allocated lines
//	lotline:g1:gone:ORDERID   hash  SKU -> version, of lines that were deallocated
//	lotline:g1:sku:SKU        hash  "" -> "version available", and ref -> "version qty available eta" of each batch
//	lotline:g1:ref:REF        zset  SKUs that have a batch of the ref
//	lotline:outcome:COMMANDID string "time partition offset {…}"
//	lotline:generations       hash  generation -> "fed", or "ending" while it is deleted; not there: generation 1 is
//	lotline:live              string the generation that is asked; not there: 1
//	lotline:rebuild:2         hash  what is kept about the making of a generation
//	lotline:set_aside         zset  what is lacking, in the order of SKU and version; lotline:set_aside:texts has each as JSON, by name
//	lotline:applying          zset  blocks of which a part is written -> when they are given up, in Unix seconds
package redis

import (
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lotline/lotline/pkg/credentials"
)

const (
	name       = "redis"
	flagPrefix = "redis-"

	dialTimeout = time.Second
	// firstGeneration needs no list.
	firstGeneration = "1"
)

// PasswordVariable is the environment variable that holds the password where no file does.
const PasswordVariable = "LOTLINE_REDIS_PASSWORD" //nolint:gosec // its name, not a password

// Config is what an operator says about Redis. Embedded with the prefix "redis-" its flags are --redis-addr and so on.
type Config struct {
	Addr            string `help:"Address (host:port) of Redis, which must keep an append-only file and evict nothing." default:"127.0.0.1:6379" placeholder:"HOST:PORT"`
	User            string `help:"Name of the Redis user; empty = the default one." placeholder:"NAME"`
	PasswordFile    string `help:"File with the user's password; empty = the variable LOTLINE_REDIS_PASSWORD, or no password. This file and those of TLS are read again for each connection." placeholder:"PATH"`
	Prefix          string `help:"What the names of all keys begin with." default:"lotline" placeholder:"NAME"`
	credentials.TLS `embed:""`
}

var prefix = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,100}$`)

// Validate names every fault of the configuration, a sentence each. It reads the files.
func (c Config) Validate() error {
	var errs []error
	if host, port, err := net.SplitHostPort(c.Addr); err != nil || host == "" || port == "" {
		errs = append(errs, fmt.Errorf("--redis-addr is %q and must be of the form host:port", c.Addr))
	}
	if !prefix.MatchString(c.Prefix) {
		errs = append(errs, fmt.Errorf("--redis-prefix is %q and must be 1 to 100 letters, digits, dots, dashes and underscores", c.Prefix))
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

// connect returns a client that connects when it is first used. An answer is waited for as long as timeout.
func (c Config) connect(timeout time.Duration, connections int) *goredis.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return goredis.NewClient(&goredis.Options{
		Addr: c.Addr, ClientName: "lotline", PoolSize: connections,
		DialTimeout: dialTimeout, ReadTimeout: timeout, WriteTimeout: timeout, ContextTimeoutEnabled: true,
		MaxRetries: -1, // whoever asks or applies tries again
		CredentialsProviderContext: func(context.Context) (string, string, error) {
			password, err := c.password()
			return c.User, password, err
		},
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if !c.On() {
				return dialer.DialContext(ctx, network, addr)
			}
			config, err := c.ClientTLS(flagPrefix)
			if err != nil {
				return nil, err
			}
			return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, network, addr)
		},
	})
}

// keys makes the names of keys, of one generation where they are of one.
type keys struct{ prefix, generation string }

func (k keys) rows() string             { return k.prefix + ":g" + k.generation + ":" }
func (k keys) order(id string) string   { return k.rows() + "order:" + id }
func (k keys) sku(id string) string     { return k.rows() + "sku:" + id }
func (k keys) ref(id string) string     { return k.rows() + "ref:" + id }
func (k keys) outcome(id string) string { return k.prefix + ":outcome:" + id }
func (k keys) generations() string      { return k.prefix + ":generations" }
func (k keys) live() string             { return k.prefix + ":live" }
func (k keys) marks() string            { return k.prefix + ":rebuild:" + k.generation }
func (k keys) applying() string         { return k.prefix + ":applying" }
func (k keys) asides() string           { return k.prefix + ":set_aside" }
func (k keys) asideTexts() string       { return k.prefix + ":set_aside:texts" }

var (
	//go:embed apply.lua
	applyLua string
	//go:embed orders.lua
	ordersLua string
	//go:embed begin.lua
	beginLua string
	//go:embed switch.lua
	switchLua string
	//go:embed end.lua
	endLua string

	applyScript  = goredis.NewScript(applyLua)
	ordersScript = goredis.NewScript(ordersLua)
	beginScript  = goredis.NewScript(beginLua)
	switchScript = goredis.NewScript(switchLua)
	endScript    = goredis.NewScript(endLua)
)

// noDay stands for an eta of "".
const noDay = "-"

func dayOf(eta string) string {
	if eta == "" {
		return noDay
	}
	return eta
}

func etaOf(day string) string { return strings.TrimPrefix(day, noDay) }
