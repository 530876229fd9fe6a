// Package clickhouse is the read model in ClickHouse: its tables, as migrations, and the writer of blocks.
//
// It is a store of readmodel, and may import readmodel, schemas, pkg and the ClickHouse client. The projector writes by
// its Writer, the gateway asks by its Reader, and the operator's command migrates.
package clickhouse

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/migrate"
)

const (
	name = "clickhouse"

	dialTimeout = 5 * time.Second
	// insertTimeout bounds one attempt, which is then made again: a server that died without a word must not
	// hold the projector for the client's default of five minutes.
	insertTimeout = time.Minute
	// ddlTimeout bounds a statement of a migration; one that fills a table may take long.
	ddlTimeout = time.Hour
)

//go:embed migrations/*.sql
var embedded embed.FS

// Layout says how the tables lie, and how long they keep what may go. The zero value is one host that keeps everything.
type Layout struct {
	Cluster   `embed:""`
	Retention `embed:""`
}

// Migrate creates the database if it is missing and brings its tables to this build's version, on one host or on all of
// a cluster, one after the other. It may run in several processes at once, and again.
func Migrate(ctx context.Context, cfg clickhouseclient.Config, layout Layout, log *slog.Logger) error {
	opts, err := options(cfg)
	if err != nil {
		return err
	}
	opts.ReadTimeout = ddlTimeout
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return fmt.Errorf("open the migrations: %w", err)
	}
	if files, err = layout.render(files); err != nil {
		return err
	}
	hosts, err := layout.hosts(ctx, opts)
	if err != nil {
		return err
	}
	for _, host := range hosts {
		log := log.With("hosts", strings.Join(host.Addr, ","))
		err := migrate.ClickHouse(ctx, host, files, log)
		if err == nil {
			err = layout.apply(ctx, host, layout.Cluster, log)
		}
		if err != nil {
			return fmt.Errorf("at %s: %w", strings.Join(host.Addr, ", "), err)
		}
	}
	return nil
}

// options returns the options of the writer and of migrations.
func options(cfg clickhouseclient.Config) (*clickhouse.Options, error) {
	opts, err := cfg.Options()
	if err != nil {
		return nil, err
	}
	opts.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	opts.DialTimeout = dialTimeout
	opts.ReadTimeout = insertTimeout
	return opts, nil
}
