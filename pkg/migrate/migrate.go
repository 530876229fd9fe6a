// Package migrate brings a database to the newest schema, with goose as a
// library: numbered SQL files, each applied once.
//
// Service roots export a Migrate that calls it with their embedded files; the
// operator's command and the tests call those.
package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Waiting for another process's migrations: every second, for ten minutes.
const (
	lockPeriodSeconds = 1
	lockTries         = 600
)

// Postgres applies the files of fsys that the database named by dsn has not
// seen, each in its transaction. Of several processes that start at once one
// migrates, under a session lock, and the others wait for it. Errors never hold
// the DSN's password.
func Postgres(ctx context.Context, dsn string, fsys fs.FS, log *slog.Logger) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("read the Postgres address: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPeriodSeconds, lockTries))
	if err != nil {
		return fmt.Errorf("prepare the migration lock: %w", err)
	}
	if err := up(ctx, goose.DialectPostgres, stdlib.OpenDB(*cfg), fsys, log, goose.WithSessionLocker(locker)); err != nil {
		return fmt.Errorf("migrate Postgres: %w", err)
	}
	return nil
}

// ClickHouse creates the database that opts names, if it is missing, and
// applies the files of fsys that it has not seen. ClickHouse has no lock to
// take and no transactions, so a file may run twice, at once or after a failure
// half-way: every statement must be one that can be repeated (IF NOT EXISTS).
func ClickHouse(ctx context.Context, opts *clickhouse.Options, fsys fs.FS, log *slog.Logger) error {
	if err := createDatabase(ctx, opts); err != nil {
		return fmt.Errorf("migrate ClickHouse: %w", err)
	}
	err := up(ctx, goose.DialectClickHouse, clickhouse.OpenDB(opts), fsys, log)
	if errors.Is(err, sql.ErrConnDone) { // the client closes a connection after a refusal, and goose tries once more on it
		return fmt.Errorf("migrate ClickHouse: user %s was refused: may it read and create tables in database %s? (%w)", opts.Auth.Username, opts.Auth.Database, err)
	}
	if err != nil {
		return fmt.Errorf("migrate ClickHouse: %w", err)
	}
	return nil
}

// createDatabase creates the database only when it is missing, so that an
// account without that right can migrate one that was made for it.
func createDatabase(ctx context.Context, opts *clickhouse.Options) (err error) {
	server := *opts
	server.Auth.Database = "system" // there is always one
	db := clickhouse.OpenDB(&server)
	defer func() { err = errors.Join(err, db.Close()) }()
	name := opts.Auth.Database
	var found uint64
	if err := db.QueryRowContext(ctx, "SELECT count() FROM system.databases WHERE name = {name:String}",
		clickhouse.Named("name", name)).Scan(&found); err != nil {
		return fmt.Errorf("look for database %s: %w", name, err)
	}
	if found > 0 {
		return nil
	}
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS {name:Identifier}", clickhouse.Named("name", name)); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// up applies what is pending and closes db.
func up(ctx context.Context, dialect goose.Dialect, db *sql.DB, fsys fs.FS, log *slog.Logger, options ...goose.ProviderOption) (err error) {
	defer func() { err = errors.Join(err, db.Close()) }()
	// The registry is global state of the process; only files count.
	provider, err := goose.NewProvider(dialect, db, fsys, append(options, goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return fmt.Errorf("read the migration files: %w", err)
	}
	results, err := provider.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
		err = fmt.Errorf("apply %s: %w", partial.Failed.Source.Path, partial.Err)
	}
	for _, r := range results {
		log.InfoContext(ctx, "migration applied", "database", string(dialect), "file", r.Source.Path, "duration", r.Duration)
	}
	return err
}

// Newest returns the number of the newest migration in a directory of a build's files: what a database must have reached
// before the build may use it.
func Newest(files fs.FS, dir string) (int64, error) {
	names, err := fs.Glob(files, dir+"/*.sql") // sorted
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("list the migrations: %w", err)
	}
	number, _, _ := strings.Cut(path.Base(names[len(names)-1]), "_")
	return strconv.ParseInt(number, 10, 64)
}
