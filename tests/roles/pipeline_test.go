//go:build integration

package roles

import (
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/services/cli"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

const answerWithin = 20 * time.Second

// The whole pipeline works while each of its parts has only the rights of its role, in Postgres over TLS, and so do the
// operator's commands.
func TestThePipelineWithTheLeastRights(t *testing.T) {
	ch, pg := startClickHouse(t), startPostgres(t)
	kafka, err := servers.StartKfake(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "kfake")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kafka.Stop()) })
	authority := requireTLS(t, pg)
	execute(t, pg, "postgres", "CREATE DATABASE lotline")
	owner := inDatabase(t, pg.DSN, "lotline")
	_, err = allocator.Migrate(t.Context(), owner)
	require.NoError(t, err)
	login := func(user, role string) postgresclient.Settings {
		login, err := stack.Login(t.Context(), owner, user, role)
		require.NoError(t, err)
		return settings(t, login, authority)
	}

	config, err := stack.Configure(stack.Servers{
		Kafka: []string{kafka.Addr}, TopicPrefix: "roles", PostgresURL: owner, ClickHouse: ch.Addr, Database: database, Replication: 1,
	})
	require.NoError(t, err)
	config.Allocator.Settings = login("allocator_1", "lotline_allocator")
	config.ClickHouseOwner = ch.as("lotline_migrate")
	config.Projector.ClickHouse = stores.ClickHouseSettings(ch.as("lotline_writer"))
	config.Gateway.ClickHouse = stores.ClickHouseSettings(ch.as("lotline_reader"))
	people := login("analyst", "lotline_bi")
	config.Projector.Postgres.PostgresURL, config.Projector.Postgres.PostgresPasswordFile = people.PostgresURL, people.PostgresPasswordFile
	config.Projector.AuditInterval = time.Second
	running, err := stack.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })

	gateway := "http://" + config.Gateway.HTTPAddr
	post := func(path, body string, status int) {
		t.Helper()
		response, err := http.Post(gateway+path, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, status, response.StatusCode, "%s", answer)
	}
	post("/add_batch", `{"ref":"b-1","sku":"TABLE","qty":10,"eta":null}`, http.StatusCreated)
	post("/add_batch", `{"ref":"b-2","sku":"TABLE","qty":10,"eta":"2031-01-02"}`, http.StatusCreated)
	post("/allocate", `{"orderid":"o-1","sku":"TABLE","qty":8}`, http.StatusAccepted)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, stack.Probe(t.Context(), gateway+"/allocations/o-1"))
	}, answerWithin, 20*time.Millisecond)
	post("/change_batch_quantity", `{"ref":"b-1","qty":4}`, http.StatusAccepted) // finds the SKU in ClickHouse; moves the line
	conn, err := pgx.Connect(t.Context(), owner)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.Eventually(t, func() bool { // what is published is deleted
		var waiting int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM outbox").Scan(&waiting))
		return waiting == 0
	}, answerWithin, 20*time.Millisecond)

	requireAudited(t, config.Projector.AdminAddr)
	verify := func(clickHouseUser string, flags ...string) (code int, printed string) {
		var out bytes.Buffer
		code = cli.Main(t.Context(), append([]string{
			"verify", "--kafka-brokers=" + kafka.Addr, "--kafka-topic-prefix=roles",
			"--postgres-url=" + people.PostgresURL, "--postgres-password-file=" + people.PostgresPasswordFile,
			"--clickhouse-addrs=" + ch.Addr, "--clickhouse-user=" + clickHouseUser, "--clickhouse-password-file=" + ch.passwords[clickHouseUser],
		}, flags...), strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	code, printed := verify("lotline_bi")
	require.Equal(t, 2, code, printed)
	require.Contains(t, printed, "Not enough privileges", "who makes dashboards reads views")
	code, printed = verify("lotline_operator")
	require.Zero(t, code, printed)
	require.NoError(t, ch.owner(t).Exec(t.Context(), "INSERT INTO order_lines_g1 (orderid, sku, version, batchref, qty) VALUES ('o-9', 'TABLE', 99, 'b-1', 1)"))
	code, printed = verify("lotline_operator", "--repair")
	require.Equal(t, 2, code, printed)
	require.Contains(t, printed, "Not enough privileges", "people who read do not repair")
	code, printed = verify("lotline_migrate", "--repair")
	require.Zero(t, code, printed)

	var migrated bytes.Buffer
	mover := login("migrator", "lotline_migrate")
	code = cli.Main(t.Context(), []string{
		"migrate", "--postgres-url=" + mover.PostgresURL, "--postgres-password-file=" + mover.PostgresPasswordFile,
		"--clickhouse-addrs=" + ch.Addr, "--clickhouse-user=lotline_migrate", "--clickhouse-password-file=" + ch.passwords["lotline_migrate"],
	}, strings.NewReader(""), &migrated, &migrated)
	require.Zero(t, code, migrated.String())
	require.Equal(t, "postgres is up to date\nclickhouse is up to date\n", migrated.String())

	rebuild := func(clickHouseUser string, flags ...string) (code int, printed string) {
		var out bytes.Buffer
		code = cli.Main(t.Context(), append([]string{
			"rebuild", "--kafka-brokers=" + kafka.Addr, "--kafka-topic-prefix=roles",
			"--postgres-url=" + mover.PostgresURL, "--postgres-password-file=" + mover.PostgresPasswordFile,
			"--clickhouse-addrs=" + ch.Addr, "--clickhouse-user=" + clickHouseUser, "--clickhouse-password-file=" + ch.passwords[clickHouseUser],
		}, flags...), strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	code, printed = rebuild("lotline_operator", "--from=state")
	require.Equal(t, 2, code, printed)
	require.Contains(t, printed, "Not enough privileges", "people who read make no tables")
	for _, from := range []string{"state", "events"} {
		code, printed = rebuild("lotline_migrate", "--from="+from)
		require.Zero(t, code, printed)
		require.Contains(t, printed, "Switched")
		code, printed = rebuild("lotline_migrate", "--drop")
		require.Zero(t, code, printed)
		// The projector's views are others now, and the gateway's tables.
		post("/allocate", `{"orderid":"o-after-`+from+`","sku":"TABLE","qty":1}`, http.StatusAccepted)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.NoError(c, stack.Probe(t.Context(), gateway+"/allocations/o-after-"+from))
		}, answerWithin, 20*time.Millisecond)
		code, printed = verify("lotline_operator")
		require.Zero(t, code, printed)
		require.NoError(t, ch.connect(t, "lotline_bi").Exec(t.Context(), "SELECT * FROM bi_order_lines"))
	}
}

// requireAudited waits until the projector has held every row against Postgres once, and found nothing.
func requireAudited(t *testing.T, addr string) {
	t.Helper()
	var body []byte
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		response, err := http.Get("http://" + addr + "/metrics")
		require.NoError(c, err)
		defer response.Body.Close()
		body, err = io.ReadAll(response.Body)
		require.NoError(c, err)
		require.Regexp(c, `(?m)^lotline_projector_audit_last_pass_timestamp_seconds [1-9]`, string(body))
		require.Regexp(c, `(?m)^lotline_projector_audit_rows_total{of="lines"} [1-9]`, string(body))
	}, answerWithin, 20*time.Millisecond)
	require.Contains(t, string(body), "lotline_projector_audit_drifting_skus 0")
	require.Contains(t, string(body), "lotline_projector_audit_failures_total 0")
}
