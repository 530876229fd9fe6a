//go:build integration

package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/migrate"
)

// rights is what a role may do with a table: operations, and the columns it may read if not all.
type rights struct {
	may     string
	columns string
}

const everyOperation = "SELECT INSERT UPDATE DELETE TRUNCATE"

// rightsOf is the table that the server is held to, in both directions: what is not here must be refused.
var rightsOf = map[string]map[string]rights{
	"lotline_migrate": {
		"goose_db_version": {may: everyOperation}, "partitions": {may: everyOperation}, "products": {may: everyOperation},
		"batches": {may: everyOperation}, "order_lines": {may: everyOperation}, "command_seen": {may: everyOperation}, "outbox": {may: everyOperation},
	},
	"lotline_allocator": {
		"partitions": {may: "SELECT INSERT UPDATE"}, "products": {may: "SELECT INSERT UPDATE"},
		"batches": {may: "SELECT INSERT UPDATE"}, "order_lines": {may: "SELECT INSERT UPDATE"},
		"command_seen": {may: "SELECT INSERT UPDATE DELETE"}, "outbox": {may: "SELECT INSERT UPDATE DELETE"},
	},
	"lotline_gateway": {
		"products": {may: "SELECT"}, "batches": {may: "SELECT"},
		"order_lines": {may: "SELECT", columns: "orderid sku qty batchref allocated_version"},
	},
	"lotline_bi": {
		"partitions": {may: "SELECT"}, "products": {may: "SELECT"}, "batches": {may: "SELECT"},
		"order_lines": {may: "SELECT", columns: "orderid sku qty batchref allocated_version command_time"},
		"outbox":      {may: "SELECT", columns: "partition first_offset next_offset"},
	},
}

// login makes a user who is a member of the role, or of none, and connects as that user.
func (d database) login(role string) (*pgx.Conn, error) {
	d.t.Helper()
	user, password := "u"+strings.ToLower(rand.Text()[:12]), rand.Text()
	d.exec("CREATE ROLE " + user + " LOGIN PASSWORD '" + password + "'")
	d.t.Cleanup(func() { d.exec("DROP OWNED BY " + user + "; DROP ROLE " + user) })
	if role != "" {
		d.exec("GRANT " + role + " TO " + user)
	}
	u, err := url.Parse(d.url)
	require.NoError(d.t, err)
	u.User = url.UserPassword(user, password)
	return pgx.Connect(d.t.Context(), u.String())
}

// refused tries a statement, undoes it, and reports whether the user may not do that. Other errors, such as a row that
// lacks values, come after the rights have been looked at.
func refused(t *testing.T, conn *pgx.Conn, sql string) bool {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	_, err = tx.Exec(t.Context(), sql)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return false
	case errors.As(err, &pg) && pg.Code == "42501":
		return true
	case errors.As(err, &pg) && (pg.Code == "23502" || pg.Code == sqlstateRefused): // not_null_violation
		return false
	}
	require.NoError(t, err, sql)
	return false
}

func TestRights(t *testing.T) {
	d := newDatabase(t)
	var columns map[string][]string
	var text string
	d.row(`SELECT string_agg(table_name || '.' || column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema = 'public'`, &text)
	columns = make(map[string][]string)
	for _, c := range strings.Fields(text) {
		table, column, _ := strings.Cut(c, ".")
		columns[table] = append(columns[table], column)
	}
	require.Len(t, columns, len(rightsOf["lotline_migrate"]), "a table is not in this test: %v", columns)
	writable := map[string]string{ // a column that no expression generates
		"goose_db_version": "version_id", "partitions": "next_offset", "products": "version", "batches": "qty", "order_lines": "qty",
		"command_seen": "body", "outbox": "segment",
	}
	for role, tables := range rightsOf {
		t.Run(role, func(t *testing.T) {
			d := database{t: t, url: d.url}
			conn, err := d.login(role)
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close(context.Background()) })
			for table, all := range columns {
				require.Contains(t, rightsOf["lotline_migrate"], table, "a table is not in this test")
				may := strings.Fields(tables[table].may)
				for op, sql := range map[string]string{
					"INSERT": "INSERT INTO %s DEFAULT VALUES", "UPDATE": "UPDATE %s SET " + writable[table] + " = DEFAULT WHERE false",
					"DELETE": "DELETE FROM %s WHERE false", "TRUNCATE": "TRUNCATE %s",
				} {
					require.Equal(t, !slices.Contains(may, op), refused(t, conn, fmt.Sprintf(sql, table)), "%s of %s refused", op, table)
				}
				readable := strings.Fields(tables[table].columns)
				for _, column := range all {
					can := slices.Contains(may, "SELECT") && (len(readable) == 0 || slices.Contains(readable, column))
					require.Equal(t, !can, refused(t, conn, "SELECT "+column+" FROM "+table+" LIMIT 0"), "reading %s.%s refused", table, column)
				}
			}
			owner := role == "lotline_migrate"
			for _, sql := range []string{
				"CREATE TABLE x (x int)", "DROP TABLE outbox", "ALTER TABLE products ADD COLUMN x int", "CREATE INDEX ON products (version)",
				"ALTER TABLE batches DROP CONSTRAINT batches_check", "DROP FUNCTION refuse_unless(boolean, text)",
				"ALTER TABLE products OWNER TO CURRENT_USER", "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
			} {
				require.Equal(t, !owner, refused(t, conn, sql), "%s refused", sql)
			}
			for _, sql := range []string{"CREATE ROLE x", "CREATE DATABASE x", "CREATE TEMP TABLE x (x int)", "CREATE SCHEMA x", "COPY products TO PROGRAM 'true'", "SET ROLE postgres"} {
				require.True(t, refusedOutside(t, conn, sql), "%s is not refused", sql)
			}
			executes := owner || role == "lotline_allocator"
			require.Equal(t, !executes, refused(t, conn, "SELECT refuse_unless(false, 'x')"))
		})
	}
}

// refusedOutside is refused for what cannot be done in a transaction.
func refusedOutside(t *testing.T, conn *pgx.Conn, sql string) bool {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}

// Who has no role cannot even connect.
func TestPublicHasNothing(t *testing.T) {
	_, err := newDatabase(t).login("")
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "42501", pg.Code, "%v", err)
}

// A later migration takes away what was given by hand, and gives to lotline_migrate what another member made.
func TestMigrateSetsTheRightsAgain(t *testing.T) {
	d := newDatabase(t)
	d.exec(`GRANT DELETE ON products TO lotline_allocator; GRANT ALL ON outbox TO PUBLIC; ALTER TABLE batches OWNER TO postgres; REVOKE SELECT ON products FROM lotline_bi`)
	warning, err := migrate.PostgresRoles(t.Context(), d.url, roles, rolesSQL)
	require.NoError(t, err)
	require.Empty(t, warning)
	var deletes, public, reads bool
	var owner string
	d.row(`SELECT has_table_privilege('lotline_allocator', 'products', 'DELETE'), has_table_privilege('lotline_gateway', 'outbox', 'INSERT'),
		has_table_privilege('lotline_bi', 'products', 'SELECT'), (SELECT tableowner FROM pg_tables WHERE tablename = 'batches')`, &deletes, &public, &reads, &owner)
	require.False(t, deletes)
	require.False(t, public)
	require.True(t, reads)
	require.Equal(t, "lotline_migrate", owner)
}

// What is refused of the rights is said. A server that warns of something else has given them.
func TestOnlyRightsThatAreRefusedAreMissing(t *testing.T) {
	d := newDatabase(t)
	d.exec(`CREATE FUNCTION greet() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'of a version that nobody supports'; END $$;
		CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION greet(); ALTER EVENT TRIGGER greet ENABLE ALWAYS`)
	warning, err := migrate.PostgresRoles(t.Context(), d.url, roles, rolesSQL)
	require.NoError(t, err)
	require.Empty(t, warning)

	conn, err := d.login("lotline_allocator")
	require.NoError(t, err)
	defer conn.Close(context.Background())
	u, err := url.Parse(d.url)
	require.NoError(t, err)
	u.User = url.UserPassword(conn.Config().User, conn.Config().Password)
	for _, right := range []string{"GRANT SELECT ON products TO lotline_bi", "REVOKE SELECT ON products FROM lotline_gateway"} {
		warning, err = migrate.PostgresRoles(t.Context(), u.String(), roles, right)
		require.NoError(t, err)
		require.Regexp(t, `may not give all roles their rights \(no privileges (were granted|could be revoked) for "products"`, warning)
	}
}

// A member of lotline_migrate, and of nothing else, can migrate.
func TestAMemberOfMigrateCanMigrate(t *testing.T) {
	d := newDatabase(t)
	conn, err := d.login("lotline_migrate")
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), `CREATE TABLE made_by_a_later_migration (x int)`)
	require.NoError(t, err)
	u, err := url.Parse(d.url)
	require.NoError(t, err)
	u.User = url.UserPassword(conn.Config().User, conn.Config().Password)
	warning, err := Migrate(t.Context(), u.String(), discard)
	require.NoError(t, err)
	require.Empty(t, warning)
	var owner string
	d.row(`SELECT tableowner FROM pg_tables WHERE tablename = 'made_by_a_later_migration'`, &owner)
	require.Equal(t, "lotline_migrate", owner)
}
