// Command fetch brings what tests need beside servers into the user's cache directory, each once:
//
//	go run ./tests/cmd/fetch --clients
//
// The Makefile calls it before the tests: a slow registry must not count as a test's time, and go test would show nothing
// of it. A test that is run by itself fetches what is not there.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/api"
	"github.com/lotline/lotline/tests/clients"
	"github.com/lotline/lotline/tests/contracts"
	"github.com/lotline/lotline/tests/internal/browser"
	"github.com/lotline/lotline/tests/internal/cache"
	"github.com/lotline/lotline/tests/servers"
)

func main() {
	var flags struct {
		Clients bool `help:"Fetch the packages of the clients in other languages too."`
	}
	kong.Parse(&flags, kong.Name("fetch"), kong.Description("Brings what tests need beside servers into the user's cache directory, each once."))
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := fetch(ctx, flags.Clients); err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
}

func fetch(ctx context.Context, clientsToo bool) error {
	schemathesis, err := api.Schemathesis(ctx)
	if err != nil {
		return err
	}
	folders := append([]cache.Folder{contracts.Specs, schemathesis, servers.Varnish()}, browser.Folders()...)
	if clientsToo {
		packages, err := clients.Packages(ctx)
		if err != nil {
			return err
		}
		folders = append(folders, packages...)
	}
	for _, folder := range folders {
		if _, err := folder.Dir(ctx); err != nil {
			return err
		}
	}
	return nil
}
