//go:build integration

package roles

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	readmodel "github.com/lotline/lotline/pkg/readmodel/clickhouse"
)

// Codes of ClickHouse's errors.
const (
	codeReadonly            = 164
	codeQuotaExceeded       = 201
	codeQueryProhibited     = 392 // by allow_ddl
	codeSettingConstraint   = 452
	codeAccessDenied        = 497
	codeAuthenticationFails = 516
	codeTooManyRows         = 396
	codeTimeout             = 159
)

func code(err error) int {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		return int(exception.Code)
	}
	return 0
}

// clickHouseRights is the table that the server is held to, in both directions: what is not here must be refused.
var clickHouseRights = map[string]map[string]string{
	"lotline_writer": {
		"events": "INSERT+SELECT", "outcomes": "INSERT", "set_aside": "INSERT+SELECT", "goose_db_version": "SELECT(version_id, is_applied)", // reads for the audit
		"order_lines": "SELECT", "order_lines_g1": "SELECT", "stock": "SELECT", "stock_g1": "SELECT", "skus": "SELECT", "skus_g1": "SELECT",
		"batches_by_ref": "SELECT", "batches_by_ref_g1": "SELECT",
	},
	"lotline_reader": {
		"order_lines": "SELECT", "order_lines_g1": "SELECT", "stock": "SELECT", "stock_g1": "SELECT", "skus": "SELECT", "skus_g1": "SELECT",
		"batches_by_ref": "SELECT", "batches_by_ref_g1": "SELECT", "outcomes": "SELECT", "events": "SELECT",
	},
	"lotline_operator": {
		"events": "SELECT", "outcomes": "SELECT", "order_lines": "SELECT", "order_lines_g1": "SELECT", "stock": "SELECT", "stock_g1": "SELECT",
		"skus": "SELECT", "skus_g1": "SELECT", "batches_by_ref": "SELECT", "batches_by_ref_g1": "SELECT",
	},
	"lotline_bi": {
		"bi_hourly": "SELECT", "bi_availability": "SELECT", "bi_service_levels": "SELECT", "bi_top_skus": "SELECT", "bi_lead_times": "SELECT", "bi_rejections": "SELECT",
		"bi_skus": "SELECT", "bi_batches": "SELECT", "bi_order_lines": "SELECT", "bi_events": "SELECT", "bi_commands": "SELECT", "bi_freshness": "SELECT",
	},
}

func TestClickHouseRights(t *testing.T) {
	ch := startClickHouse(t)
	owner := ch.owner(t)
	// Another generation, as a rebuild makes it beside the one in use, and somebody else's table.
	for _, sql := range []string{"CREATE TABLE order_lines_g2 AS order_lines_g1", "CREATE DATABASE elsewhere", "CREATE TABLE elsewhere.events (x Int8) ENGINE = MergeTree ORDER BY x"} {
		require.NoError(t, owner.Exec(t.Context(), sql))
	}
	for _, user := range []string{"lotline_writer", "lotline_reader", "lotline_operator"} {
		clickHouseRights[user]["order_lines_g2"] = "SELECT"
	}
	columns := make(map[string][]string)
	rows, err := owner.Query(t.Context(), "SELECT if(database = 'elsewhere', 'elsewhere.' || table, table), name FROM system.columns WHERE database IN ('lotline', 'elsewhere') ORDER BY position")
	require.NoError(t, err)
	for rows.Next() {
		var table, column string
		require.NoError(t, rows.Scan(&table, &column))
		columns[table] = append(columns[table], column)
	}
	require.NoError(t, rows.Err())
	require.Len(t, columns, 32, "tables, aliases and views: %v", columns)

	for user, tables := range clickHouseRights {
		t.Run(user, func(t *testing.T) {
			conn := ch.connect(t, user)
			for table := range tables {
				require.Contains(t, columns, table)
			}
			for table, all := range columns {
				operation, list, _ := strings.Cut(strings.TrimSuffix(tables[table], ")"), "(")
				readable := strings.Split(list, ", ")
				for _, column := range all {
					may := strings.Contains(operation, "SELECT") && (list == "" || slices.Contains(readable, column))
					requireDenied(t, conn, !may, "SELECT `"+column+"` FROM "+table+" LIMIT 0")
				}
				requireDenied(t, conn, !strings.Contains(operation, "INSERT"), "INSERT INTO "+table+" SELECT * FROM (SELECT * FROM generateRandom('x Int8') LIMIT 0)")
				for _, sql := range []string{"TRUNCATE TABLE ", "DROP TABLE ", "OPTIMIZE TABLE "} {
					requireDenied(t, conn, true, sql+table)
				}
				requireDenied(t, conn, true, "ALTER TABLE "+table+" DELETE WHERE 1")
			}
			for _, sql := range []string{
				"CREATE TABLE x (x Int8) ENGINE = Memory", "CREATE DATABASE x", "CREATE VIEW x AS SELECT 1", "CREATE USER x", "CREATE FUNCTION x AS (x) -> x",
				"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'x Int8')", "SELECT * FROM file('x', 'CSV', 'x Int8')", "SELECT * FROM remote('127.0.0.1', 'lotline.events')",
				"INSERT INTO FUNCTION file('x.csv', 'CSV', 'x Int8') VALUES (1)", "KILL QUERY WHERE 1", "SYSTEM STOP MERGES events", "SELECT * FROM system.processes",
			} {
				requireDenied(t, conn, true, sql)
			}
		})
	}
	t.Run("lotline_migrate", func(t *testing.T) {
		conn := ch.connect(t, "lotline_migrate")
		requireSeesInserts(t, ch.as("lotline_migrate"), owner)
		for _, sql := range []string{
			"CREATE TABLE x (x Int8) ENGINE = MergeTree ORDER BY x", "INSERT INTO x VALUES (1)", "ALTER TABLE x ADD COLUMN y Int8", "DELETE FROM x WHERE x = 1", "DROP TABLE x",
			"EXCHANGE TABLES order_lines_g1 AND order_lines_g2",
		} {
			require.NoError(t, conn.Exec(t.Context(), sql), sql)
		}
		for _, sql := range []string{"DROP DATABASE lotline", "CREATE USER x", "SELECT * FROM elsewhere.events", "INSERT INTO elsewhere.events VALUES (1)", "CREATE TABLE elsewhere.x (x Int8) ENGINE = Memory", "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'x Int8')"} {
			requireDenied(t, conn, true, sql)
		}
	})
}

// requireSeesInserts holds that a rebuild, which has to wait for what others are writing, sees it.
func requireSeesInserts(t *testing.T, as clickhouseclient.Config, other driver.Conn) {
	t.Helper()
	generations, err := readmodel.NewGenerations(as)
	require.NoError(t, err)
	defer generations.Close()
	done := make(chan error, 1)
	go func() {
		done <- other.Exec(t.Context(), "INSERT INTO order_lines_g2 (orderid) SELECT toString(number) FROM numbers(100) WHERE sleepEachRow(0.02) = 0 SETTINGS max_block_size = 1")
	}()
	require.Eventually(t, func() bool {
		var running uint64
		require.NoError(t, other.QueryRow(t.Context(), "SELECT count() FROM system.processes WHERE query_kind = 'Insert'").Scan(&running))
		return running == 1
	}, answerWithin, 20*time.Millisecond)
	require.NoError(t, generations.Settle(t.Context()))
	settled := time.Now()
	require.NoError(t, <-done)
	require.Less(t, time.Since(settled), time.Second, "it was still running")
}

// Who migrates as the wrong user is told which one that is.
func TestClickHouseMigrationIsRefused(t *testing.T) {
	ch := startClickHouse(t)
	require.NoError(t, ch.owner(t).Exec(t.Context(), "DROP TABLE goose_db_version"))
	require.ErrorContains(t, ch.migrate(t, "lotline_bi"), "user lotline_bi was refused: may it read and create tables in database lotline?")
}

// A password that is replaced while the process runs counts for the next connection, without a restart.
func TestAReplacedClickHousePassword(t *testing.T) {
	ch := startClickHouse(t)
	config := ch.as("lotline_reader")
	password, err := os.ReadFile(config.PasswordFile)
	require.NoError(t, err)
	replace := func(password string) { require.NoError(t, os.WriteFile(config.PasswordFile, []byte(password), 0o600)) }
	replace("the one before")
	opts, err := config.Options()
	require.NoError(t, err)
	ask := func() error { // over a new connection of the same client's
		conn, err := clickhouse.Open(opts)
		require.NoError(t, err)
		defer conn.Close()
		return conn.Ping(t.Context())
	}
	require.Equal(t, codeAuthenticationFails, code(ask()))
	replace(string(password))
	require.NoError(t, ask())
	replace("")
	require.ErrorContains(t, ask(), "--clickhouse-password-file")
}

// requireDenied tries a statement. Whoever may only read is told so, before the server looks at single rights; what
// goes wrong later, as with columns that do not fit, was allowed.
func requireDenied(t *testing.T, conn driver.Conn, denied bool, sql string) {
	t.Helper()
	err := conn.Exec(t.Context(), sql)
	refusal := slices.Contains([]int{codeAccessDenied, codeReadonly, codeQueryProhibited}, code(err))
	require.Equal(t, denied, refusal, "%s: %v", sql, err)
}

// Limits hold whatever a query asks for, 0 included, which means none.
func TestClickHouseLimits(t *testing.T) {
	ch := startClickHouse(t)
	for _, user := range []string{"lotline_reader", "lotline_bi"} {
		t.Run(user, func(t *testing.T) {
			conn := ch.connect(t, user)
			for setting, tooMuch := range map[string]any{"max_execution_time": 3600, "max_memory_usage": 100_000_000_000, "max_result_rows": 1_000_000_000, "readonly": 0} {
				for _, value := range []any{tooMuch, 0} {
					ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{setting: value}))
					require.Contains(t, []int{codeSettingConstraint, codeReadonly}, code(conn.Exec(ctx, "SELECT 1")), "%s = %v", setting, value)
				}
			}
			lower := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_execution_time": 1, "max_result_rows": 10, "max_threads": 1}))
			require.NoError(t, conn.Exec(lower, "SELECT 1"), "less may be asked for")
			require.Equal(t, codeTooManyRows, code(conn.Exec(lower, "SELECT number FROM numbers(1000)")))
			require.Equal(t, codeTimeout, code(conn.Exec(lower, "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(number)")))
		})
	}
	require.Equal(t, codeAuthenticationFails, code(ch.connect(t, "nobody").Ping(t.Context())))
	wrong := ch.as("lotline_bi")
	wrong.PasswordFile = ch.passwords["lotline_reader"]
	opts, err := wrong.Options()
	require.NoError(t, err)
	conn, err := clickhouse.Open(opts)
	require.NoError(t, err)
	defer conn.Close()
	require.Equal(t, codeAuthenticationFails, code(conn.Ping(t.Context())))
}

// Once a dashboard has asked as often as it may in an hour, it is told so, and nobody else is.
func TestClickHouseQuota(t *testing.T) {
	const shipped, little = "<queries>20000</queries>", "<queries>20</queries>"
	ch := startClickHouse(t, func(users string) string {
		require.Contains(t, users, shipped)
		return strings.ReplaceAll(users, shipped, little)
	})
	bi, reader := ch.connect(t, "lotline_bi"), ch.connect(t, "lotline_reader")
	var last error
	asked := 0
	for ; asked < 50 && last == nil; asked++ {
		last = bi.Exec(t.Context(), "SELECT count() FROM bi_commands") // questions to no table are free
		require.NoError(t, reader.Exec(t.Context(), "SELECT count() FROM outcomes"))
	}
	require.Equal(t, codeQuotaExceeded, code(last), "%v", last)
	require.Equal(t, 21, asked)
}
