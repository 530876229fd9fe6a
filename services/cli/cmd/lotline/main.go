// Command lotline is the operator's tool: send commands, look at the topics,
// bring topics and databases up to date.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/lotline/lotline/services/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the next signal kills
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
