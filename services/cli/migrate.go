package cli

import (
	"errors"
	"fmt"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/services/projector"
)

// migrateCmd has the flags of the services whose databases it migrates.
type migrateCmd struct {
	What                    string `arg:"" optional:"" enum:"all,postgres,clickhouse" default:"all" help:"all, postgres or clickhouse."`
	postgresclient.Settings `embed:""`
	ClickHouse              clickhouseclient.Config `embed:"" prefix:"clickhouse-"`
}

// Run migrates one database or both; the second is tried even if the first
// fails.
func (c *migrateCmd) Run(e *env) error {
	var errs []error
	step := func(what string, migrate func() error) {
		if c.What != "all" && c.What != what {
			return
		}
		err := migrate()
		if err == nil {
			fmt.Fprintf(e.stdout, "%s is up to date\n", what)
		}
		errs = append(errs, err)
	}
	step("postgres", func() error {
		url, err := c.ConnURL()
		if err != nil {
			return err
		}
		warning, err := allocator.Migrate(e.ctx, url)
		if warning != "" {
			fmt.Fprintln(e.stderr, warning)
		}
		return err
	})
	step("clickhouse", func() error { return projector.Migrate(e.ctx, c.ClickHouse) })
	return errors.Join(errs...)
}
