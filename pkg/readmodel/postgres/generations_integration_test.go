//go:build integration

package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

// described is what a generation's tables are: columns, keys, indexes, settings, owner, rights and comments.
const described = `SELECT string_agg(what, E'\n' ORDER BY what) FROM (
	SELECT c.relname || ' ' || coalesce(array_to_string(c.reloptions, ','), '') || ' ' || pg_get_userbyid(c.relowner) || ' ' ||
		(SELECT string_agg(acl::text, ',' ORDER BY acl::text) FROM unnest(c.relacl) acl) || ' ' || obj_description(c.oid) AS what
		FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname LIKE '%_g' || $1
	UNION ALL SELECT c.relname || '.' || a.attnum || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attcollation || ' ' || col_description(c.oid, a.attnum)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname LIKE '%_g' || $1
	UNION ALL SELECT replace(indexdef, current_schema(), '') FROM pg_indexes WHERE schemaname = current_schema() AND tablename LIKE '%_g' || $1
) AS all_of_it`

func TestAGenerationIsMadeAsTheFirstWasMigrated(t *testing.T) {
	cfg := migrated(t)
	require.NoError(t, newGenerations(t, cfg).Begin(t.Context(), 7))
	conn := connect(t, cfg)
	made := func(generation string) (text string) {
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT regexp_replace(regexp_replace(($1), '_g'||$2, '_gN', 'g'), 'generation '||$2, 'generation N', 'g')`,
			func() (d string) {
				require.NoError(t, conn.QueryRow(t.Context(), described, generation).Scan(&d))
				return d
			}(), generation).Scan(&text))
		return text
	}
	require.Contains(t, made("1"), "lotline_projector=arw/lotline_migrate")
	require.Equal(t, made("1"), made("7"))
}

// The rights of the read schema's roles, table by table: what is not listed is refused.
func TestRightsOfRoles(t *testing.T) {
	cfg := migrated(t)
	require.NoError(t, newGenerations(t, cfg).Begin(t.Context(), 2))
	const read, write = "SELECT", "SELECT INSERT UPDATE"
	generation := func(right string) map[string]string {
		of := map[string]string{}
		for _, table := range []string{tableLines, tableBatches, tableSKUs} {
			of[table+"_g1"], of[table+"_g2"] = right, right
		}
		return of
	}
	with := func(more map[string]string, of map[string]string) map[string]string {
		for table, right := range more {
			of[table] = right
		}
		return of
	}
	views := map[string]string{tableLines: read, tableBatches: read, tableSKUs: read}
	const all = "SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES TRIGGER MAINTAIN"
	may := map[string]map[string]string{
		"lotline_projector": with(views, with(map[string]string{"outcomes": write, "set_aside": "SELECT INSERT DELETE", "goose_db_version": read, "generations": read}, generation(write))),
		"lotline_gateway":   with(views, map[string]string{"outcomes": read}),
		"lotline_bi":        with(views, with(map[string]string{"outcomes": read, "generations": read}, generation(read))),
		"lotline_migrate": with(map[string]string{
			tableLines: all, tableBatches: all, tableSKUs: all, "outcomes": all, "set_aside": all, "goose_db_version": all, "generations": all, "rebuild": all,
		}, generation(all)),
	}
	conn := connect(t, cfg)
	var found int
	for role, tables := range may {
		rows, err := conn.Query(t.Context(), `SELECT relname, coalesce((SELECT string_agg(p, ' ' ORDER BY n) FROM
			unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN']) WITH ORDINALITY AS r (p, n) WHERE has_table_privilege($1, c.oid, p)), '')
			FROM pg_class c WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v')`, role)
		require.NoError(t, err)
		var table, rights string
		_, err = pgx.ForEachRow(rows, []any{&table, &rights}, func() error {
			found++
			require.Equal(t, tables[table], rights, "%s on %s", role, table)
			return nil
		})
		require.NoError(t, err)
		var schema, create bool
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT has_schema_privilege($1, current_schema(), 'USAGE'), has_schema_privilege($1, current_schema(), 'CREATE')`, role).Scan(&schema, &create))
		require.True(t, schema)
		require.Equal(t, role == "lotline_migrate", create, role)
	}
	require.Equal(t, 4*14, found, "four roles, eleven tables and three views")
	var public int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_class, aclexplode(relacl) AS acl WHERE relnamespace = current_schema()::regnamespace AND acl.grantee = 0`).Scan(&public))
	require.Zero(t, public)
}

// begunBlock is a block that is being applied, and comes no further until end is called.
func begunBlock(t *testing.T, cfg Config) (end func()) {
	t.Helper()
	tx, err := connect(t, cfg).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE skus_g1 IN SHARE MODE")
	require.NoError(t, err)
	w, applied := newWriter(t, cfg), make(chan error, 1)
	go func() { applied <- w.Apply(t.Context(), readmodeltest.New(3, 100).Records) }()
	awaitLock(t, cfg, "skus_g1")
	return func() {
		t.Helper()
		require.NoError(t, tx.Commit(t.Context()))
		require.NoError(t, <-applied)
	}
}

// awaitLock returns once somebody waits for a table or view.
func awaitLock(t *testing.T, cfg Config, relation string) {
	t.Helper()
	conn := connect(t, cfg)
	require.Eventually(t, func() bool {
		var waits bool
		return conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1::regclass AND NOT granted)`, relation).Scan(&waits) == nil && waits
	}, 10*time.Second, time.Millisecond)
}

// Begin, Settle and Drop return once the blocks are in that were being applied; the new generation is not fed before.
func TestBlocksThatAreBeingAppliedAreWaitedFor(t *testing.T) {
	cfg := migrated(t)
	g := newGenerations(t, cfg)
	for what, do := range map[string]func(context.Context) error{
		"Begin":  func(ctx context.Context) error { return g.Begin(ctx, 2) },
		"Settle": g.Settle,
		"Drop":   func(ctx context.Context) error { return g.Drop(ctx, 3) },
	} {
		end := begunBlock(t, cfg)
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		require.Error(t, do(short), what)
		cancel()
		end()
		require.NoError(t, do(t.Context()), what)
	}
}

// A question that takes long is not ended by a switch, which waits for it in turns; others are answered between them.
func TestASwitchWaitsForQuestions(t *testing.T) {
	cfg := migrated(t)
	g := newGenerations(t, cfg)
	require.NoError(t, newWriter(t, cfg).Apply(t.Context(), readmodeltest.New(3, 100).Records))
	require.NoError(t, g.Begin(t.Context(), 2))
	tx, err := connect(t, cfg).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT count(*) FROM order_lines") // one who has the views in another order
	require.NoError(t, err)
	switched := make(chan error, 1)
	go func() { switched <- g.Switch(t.Context(), 2) }()
	awaitLock(t, cfg, "order_lines") // it has the other view, and waits for this one
	_, err = tx.Exec(t.Context(), "SELECT count(*) FROM skus")
	require.NoError(t, err, "it is the switch that steps back")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-switched)
	_, live, err := g.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, live)
}

func TestGenerationsAskForTheMigration(t *testing.T) {
	_, _, err := newGenerations(t, newSchema(t)).List(t.Context())
	require.ErrorContains(t, err, "lotline migrate")
}

// A row that another process has locked, in a generation that is being filled, holds up one statement of Load and no more.
func TestLoadIsInSmallTransactions(t *testing.T) {
	cfg := migrated(t)
	g := newGenerations(t, cfg)
	require.NoError(t, g.Begin(t.Context(), 2))
	var rows readmodel.State
	for i := range 2*statementRowsMax + 1 {
		rows.Lines = append(rows.Lines, readmodel.LineRow{Line: readmodel.Line{OrderID: fmt.Sprintf("o%06d", i), SKU: "LAMP", BatchRef: "b", Qty: 1, Version: 1}, EventTime: time.Now()})
	}
	require.NoError(t, g.Load(t.Context(), 2, rows.Whole))
	var transactions int
	require.NoError(t, connect(t, cfg).QueryRow(t.Context(), "SELECT count(DISTINCT xmin::text) FROM order_lines_g2").Scan(&transactions))
	require.Equal(t, 3, transactions)
}
