package crash

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/tests/servers"
)

// postgresRestored takes a base backup under load, lets the pipeline go on, and puts the backup in the place of Postgres.
func postgresRestored(ctx context.Context, f *Field) error {
	lines := f.during
	f.during = nil
	sent := make(chan error, 1)
	go func() { sent <- f.send(ctx, lines[:len(lines)/2]) }()
	server, backup := f.hosts.servers[postgres], filepath.Join(f.dir, "base.tar")
	if err := servers.BackUpPostgres(ctx, server, backup); err != nil {
		return errors.Join(err, <-sent)
	}
	backedUp := time.Now()
	if err := errors.Join(<-sent, f.send(ctx, lines[len(lines)/2:])); err != nil {
		return err
	}
	if _, err := f.awaitPublished(ctx, backedUp); err != nil {
		return err
	}
	before, err := f.applied(ctx)
	if err != nil {
		return err
	}
	f.hosts.proxies[postgres].Stop() // so that what was restored is seen before it is replayed
	if err := errors.Join(server.Kill(), servers.RestorePostgres(server, backup)); err != nil {
		return err
	}
	if err := server.Restart(ctx); err != nil {
		return err
	}
	restored, err := f.applied(ctx)
	if err != nil {
		return err
	}
	if restored < before {
		f.took("Postgres restored from a base backup", "it had applied %d offsets, all published, and has applied %d", before, restored)
	}
	back := time.Now()
	if err := f.hosts.proxies[postgres].Start(); err != nil {
		return fmt.Errorf("let postgres be reached: %w", err)
	}
	for now := restored; now < before; time.Sleep(lookEvery) {
		if now, err = f.applied(ctx); err != nil {
			return err
		}
		if time.Since(back) > noticedWithin {
			return fmt.Errorf("Postgres had applied %d offsets and only %d %s after it was restored, see %s", before, now, noticedWithin, f.dir)
		}
	}
	f.measure(fmt.Sprintf("%d offsets applied again after", before-restored), time.Since(back))
	return f.readyAgain(ctx)
}

// query asks the pipeline's database, past the proxy.
func (f *Field) query(ctx context.Context, sql string, into ...any) error {
	conn, err := pgx.Connect(ctx, f.target.PostgresURL)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return conn.QueryRow(ctx, sql).Scan(into...)
}

const appliedOffsets = `SELECT sum(next_offset)::bigint FROM partitions`

// applied counts the offsets of all partitions that are applied.
func (f *Field) applied(ctx context.Context) (n int64, err error) {
	return n, f.query(ctx, appliedOffsets, &n)
}
