// Package lifecycle is what every Lotline process does around its Run: read
// flags and environment, set the log up, and turn signals into a graceful stop.
//
// Only the main packages under cmd/ call it.
package lifecycle

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// EnvPrefix is what every environment variable starts with: the flag
// --kafka-brokers is LOTLINE_KAFKA_BROKERS.
const EnvPrefix = "LOTLINE"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// FlagHelp is what --help says of a flag. Where a placeholder stands in for its default, kong would not show that at all.
func FlagHelp(v *kong.Value) string {
	if v.Flag == nil || v.Flag.PlaceHolder == "" || v.Default == "" {
		return kong.DefaultHelpValueFormatter(v)
	}
	shown := *v
	shown.Help = fmt.Sprintf("%s. Default: %s.", strings.TrimSuffix(v.Help, "."), v.Default)
	return kong.DefaultHelpValueFormatter(&shown)
}

// Main runs a process and exits it: 0 when run returns nil, 1 when it returns
// an error, 2 when flags or environment cannot be used. C is a struct with
// kong's tags; if it has a method Validate() error, that is called first.
//
// SIGINT and SIGTERM cancel run's context once; a second one ends the process
// at once, in the way the system does. The log is JSON on stderr, by slog's
// default logger, from the level of --log-level, without secrets (log.go).
func Main[C any](name, description string, run func(ctx context.Context, cfg C) error) {
	os.Exit(execute(untilSignal(), name, description, os.Args[1:], os.Stdout, os.Stderr, service(name, run)))
}

// MainInTerminal is Main for what somebody starts by hand and looks at: an error is printed as it is, and only what run logs
// is in the log.
func MainInTerminal[C any](name, description string, run func(ctx context.Context, cfg C) error) {
	os.Exit(execute(untilSignal(), name, description, os.Args[1:], os.Stdout, os.Stderr, inTerminal(os.Stderr, name, run)))
}

func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// Restores the default effect of signals, so that the next one kills.
	context.AfterFunc(ctx, stop)
	return ctx
}

func service[C any](name string, run func(context.Context, C) error) func(context.Context, C) error {
	return func(ctx context.Context, cfg C) error {
		log := slog.Default().With("service", name)
		slog.SetDefault(log)
		log.Info("starting")
		err := run(ctx, cfg)
		if err != nil {
			log.Error("stopped by an error", "error", err)
		} else {
			log.Info("stopped")
		}
		return err
	}
}

func inTerminal[C any](stderr io.Writer, name string, run func(context.Context, C) error) func(context.Context, C) error {
	return func(ctx context.Context, cfg C) error {
		err := run(ctx, cfg)
		if err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", name, err)
		}
		return err
	}
}

func execute[C any](ctx context.Context, name, description string, args []string, stdout, stderr io.Writer,
	run func(context.Context, C) error,
) int {
	var cli struct {
		Config   C          `embed:""`
		LogLevel slog.Level `help:"What to log: debug, info, warn or error, and all above." default:"info"`
	}
	exited := -1
	parser, err := kong.New(&cli, kong.Name(name), kong.Description(description), kong.DefaultEnvars(EnvPrefix), kong.ValueFormatter(FlagHelp),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }))
	if err == nil {
		_, err = parser.Parse(args) // also calls Config's Validate
	}
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nSee %s --help.\n", name, err, name)
		return exitUsage
	}

	slog.SetDefault(NewLog(stderr, cli.LogLevel))
	if err := run(ctx, cli.Config); err != nil {
		return exitFailed
	}
	return exitOK
}
