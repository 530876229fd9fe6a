package cli

import (
	"errors"
	"fmt"

	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/services/projector"
)

// migrateCmd has the flags of the services whose databases it migrates.
type migrateCmd struct {
	What                    string `arg:"" optional:"" enum:"all,postgres,clickhouse,read-postgres" default:"all" help:"postgres (the write side), clickhouse or read-postgres (a read model), or all: the write side and the store of --read-model."`
	postgresclient.Settings `embed:"" group:"Postgres:"`
	stores.MigrateConfig    `embed:"" group:"Read model:"`
}

// readModel is the settings of the read model that is to be migrated.
func (c *migrateCmd) readModel() stores.MigrateConfig {
	chosen := c.MigrateConfig
	switch c.What {
	case "clickhouse":
		chosen.ReadModel = stores.ClickHouse
	case "read-postgres":
		chosen.ReadModel = stores.Postgres
	}
	return chosen
}

// Validate names the faults of the read model's settings, if it is to be migrated; kong asks Settings by itself.
func (c *migrateCmd) Validate() error {
	if c.What == "postgres" {
		return nil
	}
	return c.readModel().Check()
}

// Run migrates one database or both; the second is tried even if the first
// fails.
func (c *migrateCmd) Run(e *env) error {
	var errs []error
	step := func(what string, migrate func() (warning string, err error)) {
		warning, err := migrate()
		if warning != "" {
			fmt.Fprintln(e.stderr, warning)
		}
		if err == nil {
			fmt.Fprintf(e.stdout, "%s is up to date\n", what)
		}
		errs = append(errs, err)
	}
	if c.What == "all" || c.What == "postgres" {
		step("postgres", func() (string, error) {
			url, err := c.ConnURL()
			if err != nil {
				return "", err
			}
			return allocator.Migrate(e.ctx, url)
		})
	}
	if what := map[string]string{stores.ClickHouse: "clickhouse", stores.Postgres: "read-postgres"}[c.readModel().ReadModel]; what != "" && c.What != "postgres" {
		step(what, func() (string, error) { return projector.Migrate(e.ctx, c.readModel()) })
	}
	return errors.Join(errs...)
}
