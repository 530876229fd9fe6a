// Package stores is where one of the read model's stores is chosen, by one setting that every process has.
//
// The projector, the gateway and the operator's command embed its Config. It is the only package that knows all stores,
// and may import them, readmodel and pkg.
package stores

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/clickhouse"
	"github.com/lotline/lotline/pkg/readmodel/postgres"
	"github.com/lotline/lotline/pkg/readmodel/redis"
	"github.com/lotline/lotline/pkg/readmodel/writeside"
)

// The values of --read-model.
const (
	ClickHouse = "clickhouse"
	Postgres   = "postgres"
	Redis      = "redis"
	WriteSide  = "write-side"
)

// ClickHouseSettings are those of the store, without their Validate, as are the others here: kong calls that of every
// struct that is embedded, and the flags of a store that was not chosen must not matter.
type ClickHouseSettings clickhouseclient.Config

// PostgresSettings are those of the store.
type PostgresSettings postgres.Config

// RedisSettings are those of the store.
type RedisSettings redis.Config

// WriteSideSettings are those of the store.
type WriteSideSettings postgresclient.Settings

// Config is what an operator says about the read model. Embedded without a prefix.
type Config struct {
	ReadModel    string             `help:"Which store the read model is in: clickhouse, postgres or redis; a gateway may also ask the write side itself (write-side), with no projection at all. Only the flags of that store matter." default:"clickhouse" placeholder:"STORE"`
	ClickHouse   ClickHouseSettings `embed:"" prefix:"clickhouse-"`
	ReadPostgres PostgresSettings   `embed:"" prefix:"read-postgres-"`
	Redis        RedisSettings      `embed:"" prefix:"redis-"`
}

// Check names every fault of the settings of the store that is chosen, a sentence each.
func (c Config) Check() error {
	switch c.ReadModel {
	case ClickHouse:
		return clickhouseclient.Config(c.ClickHouse).Validate()
	case Postgres:
		return postgres.Config(c.ReadPostgres).Validate()
	case Redis:
		return redis.Config(c.Redis).Validate()
	case WriteSide:
		return nil
	}
	return fmt.Errorf("--read-model is %q and must be %s, %s, %s or %s", c.ReadModel, ClickHouse, Postgres, Redis, WriteSide)
}

// CheckKept is Check for who keeps a read model: the write side is none.
func (c Config) CheckKept() error {
	if c.ReadModel == WriteSide {
		return fmt.Errorf("--read-model is %s, where nothing is projected, so that there is nothing to rebuild, to verify or to audit: a gateway asks the write side without a projector", WriteSide)
	}
	return c.Check()
}

// NewWriter returns the chosen store's Writer. It connects when it is first used.
func (c Config) NewWriter() (readmodel.Writer, error) {
	if err := c.CheckKept(); err != nil {
		return nil, err
	}
	switch c.ReadModel {
	case Postgres:
		return postgres.NewWriter(postgres.Config(c.ReadPostgres))
	case Redis:
		return redis.NewWriter(redis.Config(c.Redis)), nil
	}
	return clickhouse.NewWriter(clickhouseclient.Config(c.ClickHouse))
}

// NewGenerations returns the chosen store's Generations. It connects when it is first used.
func (c Config) NewGenerations() (readmodel.Generations, error) {
	if err := c.CheckKept(); err != nil {
		return nil, err
	}
	switch c.ReadModel {
	case Postgres:
		return postgres.NewGenerations(postgres.Config(c.ReadPostgres))
	case Redis:
		return redis.NewGenerations(redis.Config(c.Redis)), nil
	}
	return clickhouse.NewGenerations(clickhouseclient.Config(c.ClickHouse))
}

// MigrateConfig is Config for who migrates.
type MigrateConfig struct {
	Config           `embed:""`
	ClickHouseLayout clickhouse.Layout `embed:"" prefix:"clickhouse-"`
}

// Migrate brings the chosen store to this build's version. It may run in several processes at once, and again. A warning
// is a sentence for the operator: the tables are there, but not all rights.
func (c MigrateConfig) Migrate(ctx context.Context, log *slog.Logger) (warning string, err error) {
	switch c.ReadModel {
	case ClickHouse:
		return "", clickhouse.Migrate(ctx, clickhouseclient.Config(c.ClickHouse), c.ClickHouseLayout, log)
	case Postgres:
		return postgres.Migrate(ctx, postgres.Config(c.ReadPostgres), log)
	}
	return "", c.Check() // Redis has no tables, and the write side's are the allocator's to migrate
}

// ReaderConfig is Config for who asks.
type ReaderConfig struct {
	Config    `embed:""`
	WriteSide WriteSideSettings `embed:""`
}

// Check names every fault of the settings of the store that is chosen, a sentence each.
func (c ReaderConfig) Check() error {
	if c.ReadModel == WriteSide {
		return postgresclient.Settings(c.WriteSide).Validate()
	}
	return c.Config.Check()
}

// NewReader returns the chosen store's Reader, whose questions may each take as long as timeout. It connects when it is
// first asked.
func (c ReaderConfig) NewReader(timeout time.Duration) (readmodel.Reader, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	switch c.ReadModel {
	case Postgres:
		return postgres.NewReader(postgres.Config(c.ReadPostgres), timeout)
	case Redis:
		return redis.NewReader(redis.Config(c.Redis), timeout), nil
	case WriteSide:
		return writeside.NewReader(postgresclient.Settings(c.WriteSide), timeout)
	}
	return clickhouse.NewReader(clickhouseclient.Config(c.ClickHouse), timeout)
}
