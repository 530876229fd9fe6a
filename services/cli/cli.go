// Package cli is the operator's `lotline` command: send, tail, topics, dlq, offsets,
// verify, rebuild, keys, migrate.
//
// It holds flags and wiring; reading files and rendering records are in
// internal packages. It may import schemas, topics, pkg and, for their
// migrations, repairs, rebuilds and offsets, two services' roots. cmd/lotline and the tests call Main.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/lifecycle"
	"github.com/lotline/lotline/pkg/postgresclient"
)

// Exit codes. `topics diff` returns exitFailed for differences, as diff(1)
// does, and exitUsage for trouble.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const (
	clientID    = "lotline-cli"
	pingTimeout = 10 * time.Second
)

// lotline is the grammar of the command line. Flags of how a process reaches
// something can be given as LOTLINE_… too, by the same names as for the
// services; what is asked for once (env:"-") cannot.
type lotline struct {
	Kafka    kafkaclient.Config `embed:"" prefix:"kafka-" group:"Kafka:"`
	LogLevel slog.Level         `help:"What to log to stderr: debug, info, warn or error, and all above." default:"error"`

	Send    sendCmd    `cmd:"" help:"Send commands from a file or stdin."`
	Tail    tailCmd    `cmd:"" help:"Print commands, events or dead letters, decoded, one JSON object a line."`
	Topics  topicsCmd  `cmd:"" help:"Compare or bring the cluster's topics to what Lotline declares."`
	DLQ     dlqCmd     `cmd:"" name:"dlq" help:"List, replay or discard dead letters: commands that could not be read."`
	Offsets offsetsCmd `cmd:"" help:"Show where the allocators' partitions stand, and move one past what cannot be read."`
	Rebuild rebuildCmd `cmd:"" help:"Make the next generation of the read model, compare it with the write side, and switch to it."`
	Verify  verifyCmd  `cmd:"" help:"Compare Postgres and ClickHouse with the events, down to the row, while everything runs."`
	Keys    keysCmd    `cmd:"" help:"Make keys for the gateway's HTTP API."`
	Migrate migrateCmd `cmd:"" help:"Bring the schemas of Postgres and of the read model to what this version expects. Can be repeated."`
}

// env is what a subcommand works with.
type env struct {
	ctx            context.Context //nolint:containedctx // kong's Run methods take bound values, and this is one call
	kafka          kafkaclient.Config
	stdin          io.Reader
	stdout, stderr io.Writer
}

// exit is an error with an exit code of its own; a nil err prints nothing.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string { return fmt.Sprint(e.err) }
func (e exit) Unwrap() error { return e.err }

// Main runs one command line and returns the exit code: 0, 1 for what failed,
// 2 for what cannot be understood. Without a command it prints what there is.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var cli lotline
	exited := -1
	parser, err := kong.New(&cli, kong.Name("lotline"), kong.DefaultEnvars(lifecycle.EnvPrefix),
		kong.Description("The operator's command of Lotline, which allocates stock to order lines."),
		kong.ValueFormatter(lifecycle.FlagHelp), kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }))
	if err != nil {
		fmt.Fprintln(stderr, "lotline:", err)
		return exitUsage
	}
	if len(args) == 0 {
		_, _ = parser.Parse([]string{"--help"})
		return exitUsage
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "lotline: %v\nSee %s --help.\n", err, misunderstood(err))
		return exitUsage
	}
	slog.SetDefault(lifecycle.NewLog(stderr, cli.LogLevel))

	out := &output{Writer: stdout}
	err = command.Run(&env{ctx, cli.Kafka, stdin, out, stderr})
	if err == nil {
		err = out.err
	}
	if err == nil {
		return exitOK
	}
	code := exitFailed
	var e exit
	if errors.As(err, &e) {
		code, err = e.code, e.err
	}
	if err != nil {
		fmt.Fprintln(stderr, "lotline:", explain(err))
	}
	return code
}

// output remembers that something could not be written: nobody was told what the command found, so it must not end as if all were well.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil && o.err == nil {
		// Not exitFailed, which would be what some commands have found.
		o.err = exit{exitUsage, fmt.Errorf("write the output: %w", err)}
	}
	return n, err
}

// misunderstood is as much of the command line as was understood: whose help has the answer.
func misunderstood(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context.Selected() != nil {
		return parse.Context.Selected().FullPath()
	}
	return "lotline"
}

// explain adds to an error what its reader can do about it, as far as codes and types tell.
func explain(err error) error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return kafkaclient.Explain(err)
	}
	advice := "no Postgres answers there: say where it is with --postgres-url or --postgres-url-file (a read model: --read-postgres-url…)"
	var code *pgconn.PgError
	if errors.As(err, &code) {
		advice = refusedBecause[code.Code]
	}
	if advice == "" {
		return err
	}
	return fmt.Errorf("%w\n%s", err, advice)
}

// refusedBecause is what to do about a Postgres that answered and let nobody in, by SQLSTATE.
var refusedBecause = map[string]string{
	"28P01": otherLogin, "28000": otherLogin,
	"3D000": "make that database, or name another with --postgres-url or --postgres-url-file",
	"42501": "the user may not connect to that database: have its owner GRANT CONNECT, or give another user",
	"53300": "all connections of that Postgres, database or user are taken: end some, or allow more (max_connections, CONNECTION LIMIT)",
	"57P03": "Postgres is starting or stopping: try again in a moment",
}

const otherLogin = "Postgres does not accept this user with this password: give it in --postgres-url-file, --postgres-password-file or " + postgresclient.PasswordVariable

// connect makes a client of the cluster, and finds out at once whether it
// answers.
func (e *env) connect(opts ...kgo.Opt) (*kgo.Client, error) {
	if err := e.kafka.Validate(); err != nil {
		return nil, exit{exitUsage, err}
	}
	client, err := kgo.NewClient(append(e.kafka.Opts(clientID), opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client: %w", err)
	}
	ctx, cancel := context.WithTimeout(e.ctx, pingTimeout)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		if kafkaclient.Refused(err) {
			return nil, fmt.Errorf("reach Kafka at %s: %w", strings.Join(e.kafka.Brokers, ","), err)
		}
		return nil, fmt.Errorf("no Kafka broker answers at %s (%w): start one with `make run`, or say where they are with --kafka-brokers or LOTLINE_KAFKA_BROKERS",
			strings.Join(e.kafka.Brokers, ","), err)
	}
	return client, nil
}
