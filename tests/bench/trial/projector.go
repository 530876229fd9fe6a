package trial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	store "github.com/lotline/lotline/pkg/readmodel/clickhouse"
)

// ProjectorProgram is the program that NewGround has to build for StartProjector.
const ProjectorProgram = "services/projector/cmd/projector"

// Projector is a process of the projector as it ships, and its tables.
type Projector struct {
	process *Process
	conn    driver.Conn
}

// StartProjector makes a database in ClickHouse (host:port) and fills it from now on; Check looks at it too.
func (s *Site) StartProjector(ctx context.Context, clickHouse string) (*Projector, error) {
	database := s.Config.TopicPrefix
	cfg := clickhouseclient.Config{Addrs: []string{clickHouse}, Database: database, User: "default"}
	if err := store.Migrate(ctx, cfg, store.Layout{}, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: cfg.Addrs, Auth: clickhouse.Auth{Database: database}})
	if err != nil {
		return nil, err
	}
	s.clickHouse = clickHouse
	process, err := s.Start("projector", "--kafka-brokers="+strings.Join(s.Kafka, ","), "--kafka-topic-prefix="+database,
		"--clickhouse-addrs="+clickHouse, "--clickhouse-database="+database, "--admin-addr=", "--log-level=warn")
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Projector{process, conn}, nil
}

// Stop ends the process; the tables stay until the site is closed.
func (p *Projector) Stop() error {
	return errors.Join(p.process.Stop(), p.conn.Close())
}

// AwaitVersion returns once readers of ClickHouse find that version of a SKU, and has look told of each newer one before.
func (p *Projector) AwaitVersion(ctx context.Context, sku string, version uint64, look func(newest uint64, at time.Time)) error {
	for known := uint64(0); ; {
		waiting, cancel := context.WithTimeout(ctx, stalledAfter)
		newest, err := p.newer(waiting, sku, known)
		cancel()
		if err != nil {
			return fmt.Errorf("version %d of %s was the last that came: %w", known, sku, err)
		}
		look(newest, time.Now())
		if known = newest; known >= version {
			return nil
		}
	}
}

// newer asks until there is a version after the one that is known.
func (p *Projector) newer(ctx context.Context, sku string, known uint64) (newest uint64, err error) {
	for {
		err := p.conn.QueryRow(ctx, "SELECT max(version) FROM skus FINAL WHERE sku = ? SETTINGS max_threads = 1", sku).Scan(&newest)
		if err != nil || newest > known {
			return newest, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// drop removes the tables of a site.
func drop(ctx context.Context, clickHouse, database string) error {
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{clickHouse}})
	if err != nil {
		return err
	}
	return errors.Join(conn.Exec(ctx, "DROP DATABASE IF EXISTS "+database), conn.Close())
}
