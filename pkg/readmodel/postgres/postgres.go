// Package postgres is the read model in Postgres: tables with a row a key, made of events, in a schema of their own that
// may be on another server than the write side.
//
// It is a store of readmodel, and may import readmodel, pkg and the Postgres client. The projector writes by its Writer,
// the gateway asks by its Reader, and the operator's command migrates and rebuilds by its Generations.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/pkg/migrate"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/internal/pgreader"
)

const name = "postgres"

// PasswordVariable is the environment variable that holds the password where no file does.
const PasswordVariable = "LOTLINE_READ_POSTGRES_PASSWORD" //nolint:gosec // its name, not a password

// Config is what an operator says about the read model in Postgres. Embedded with the prefix "read-postgres-" its flags
// are --read-postgres-url and so on.
type Config struct {
	URL          string `name:"url" help:"Where the read model is: a postgres:// URL without a password." default:"postgres://lotline@127.0.0.1:5432/lotline" placeholder:"URL"`
	URLFile      string `name:"url-file" help:"File that holds this URL; overrides it. It may have the password in it." placeholder:"PATH"`
	PasswordFile string `help:"File with the user's password; empty = the one in the URL, or in the variable LOTLINE_READ_POSTGRES_PASSWORD, or in PGPASSFILE. Files are read again for each connection." placeholder:"PATH"`
	Schema       string `help:"Schema of the read model's tables." default:"lotline_read" placeholder:"NAME"`
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Validate names every fault of the configuration, a sentence each, and holds no password. It reads the files.
func (c Config) Validate() error {
	_, err := c.ConnURL()
	if !schemaName.MatchString(c.Schema) {
		err = errors.Join(err, fmt.Errorf("the schema %q of --read-postgres-schema must be small letters, digits and underscores, 63 at the most", c.Schema))
	}
	return err
}

// ConnURL returns the URL to connect to, which may hold the password. The files are read at each call.
func (c Config) ConnURL() (string, error) {
	return postgresclient.Source{
		Flags: "read-postgres", URL: c.URL, URLFile: c.URLFile, PasswordFile: c.PasswordFile, PasswordVariable: PasswordVariable,
	}.ConnURL()
}

//go:embed migrations/*.sql
var embedded embed.FS

var (
	//go:embed roles.sql
	rolesSQL string
	//go:embed generation_roles.sql
	generationRolesSQL string
)

// roles are those that roles.sql gives rights to.
var roles = []string{"lotline_migrate", "lotline_projector", "lotline_gateway", "lotline_bi"}

// Migrate creates the schema if it is missing, brings its tables to this build's version, and roles to their rights. It
// may run in several processes at once, and again. A warning is a sentence for the operator: the tables are there, but
// not all rights.
func Migrate(ctx context.Context, cfg Config, log *slog.Logger) (warning string, err error) {
	url, err := cfg.ConnURL()
	if err != nil {
		return "", err
	}
	if err := createSchema(ctx, url, cfg.Schema); err != nil {
		return "", err
	}
	if url, err = postgresclient.WithSetting(url, "search_path", cfg.Schema); err != nil {
		return "", err
	}
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return "", fmt.Errorf("open the migrations: %w", err)
	}
	if err := migrate.Postgres(ctx, url, files, log); err != nil {
		return "", err
	}
	return migrate.PostgresRoles(ctx, url, roles, rolesSQL+generationRolesSQL)
}

// createSchema makes the schema only if it is missing, so that an account without that right can migrate one that was
// made for it. Several may call it at once.
func createSchema(ctx context.Context, url, schema string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is open on it
	if _, err := conn.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '%[1]s') THEN CREATE SCHEMA %[1]s; END IF;
	EXCEPTION WHEN duplicate_schema OR unique_violation THEN NULL; END $$`, schema)); err != nil {
		return fmt.Errorf("create the schema %s: %w", schema, err)
	}
	return nil
}

const stockColumns = `s.sku, s.version, s.available, b.ref, b.qty, b.available, coalesce(to_char(b.eta, 'YYYY-MM-DD'), ''), b.version`

var queries = pgreader.Queries{
	Orders: fmt.Sprintf(`SELECT l.orderid, l.sku, l.batchref, l.version FROM unnest($1::text[]) AS k (orderid)
		CROSS JOIN LATERAL (SELECT * FROM order_lines o WHERE o.orderid = k.orderid ORDER BY o.sku LIMIT %d) AS l
		ORDER BY l.orderid, l.sku`, readmodel.OrderLinesMax+1),
	Lines: `SELECT l.orderid, l.sku, l.batchref, l.qty, coalesce(to_char(l.eta, 'YYYY-MM-DD'), ''), l.version FROM unnest($1::text[], $2::text[]) AS k (orderid, sku)
		JOIN order_lines l ON l.orderid = k.orderid AND l.sku = k.sku`,
	Availability: `SELECT ` + stockColumns + `
		FROM skus s LEFT JOIN stock b ON b.sku = s.sku WHERE s.sku = ANY ($1::text[]) ORDER BY s.sku, b.eta NULLS FIRST, b.ref`,
	List: `SELECT * FROM (SELECT ` + stockColumns + ` FROM (SELECT * FROM skus WHERE sku > $1 ORDER BY sku LIMIT $2) s
		LEFT JOIN stock b ON b.sku = s.sku ORDER BY s.sku FETCH FIRST $3 ROWS WITH TIES) l (sku, v, a, ref, q, n, eta, w) ORDER BY sku, eta, ref`,
	SKUs: fmt.Sprintf(`SELECT k.ref, b.sku FROM unnest($1::text[]) AS k (ref)
		CROSS JOIN LATERAL (SELECT sku FROM stock WHERE ref = k.ref ORDER BY sku LIMIT %d) AS b ORDER BY k.ref, b.sku`, readmodel.RefSKUsMax),
	Outcomes: `SELECT commandid, commandsource, type, sku, version, orderid, batchref, reason, message, event_time
		FROM outcomes WHERE commandid = ANY ($1::text[])`,
}

// Reader asks the read model in Postgres. It is a readmodel.Reader.
type Reader struct{ *pgreader.Reader }

var _ readmodel.Reader = Reader{}

// NewReader returns a reader whose questions may each take as long as timeout. It connects when it is first asked.
func NewReader(cfg Config, timeout time.Duration) (Reader, error) {
	r, err := pgreader.New(pgreader.Config{ConnURL: cfg.ConnURL, SearchPath: cfg.Schema, Timeout: timeout, Queries: queries})
	return Reader{r}, err
}

// Name is postgres.
func (Reader) Name() string { return name }
