//go:build bi

// Package bi holds the tests of what others make of the views for BI: a dashboard in Superset, and models in dbt, on a
// pipeline whose parts have the users that deployments have. They take 1 GB from PyPI, so only `make test-bi` runs them.
//
// It imports the test servers and stack, and tests/internal/browser for Chromium.
package bi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/tests/internal/browser"
	"github.com/lotline/lotline/tests/internal/cache"
	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

const (
	database = "lotline" // as the users' grants have it
	days     = 7         // of history
	within   = 5 * time.Minute
)

func TestMain(m *testing.M) {
	servers.Init()
	slog.SetLogLoggerLevel(slog.LevelError) // the services talk
	os.Exit(m.Run())
}

// pipeline is a running Lotline with a week behind it.
type pipeline struct {
	clickHouse *servers.Server
	passwords  map[string]string // by user of ClickHouse
}

func TestOnALivePipeline(t *testing.T) {
	p := start(t)
	t.Run("Superset", p.superset)
	t.Run("dbt", p.dbt)
}

func start(t *testing.T) *pipeline {
	p := &pipeline{passwords: make(map[string]string)}
	p.startClickHouse(t)
	pg, err := servers.StartPostgres(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "postgres")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Stop()) })
	kafka, err := servers.StartKfake(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "kfake")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, kafka.Stop()) })
	conn, err := pgx.Connect(t.Context(), pg.DSN)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE DATABASE lotline")
	require.NoError(t, errors.Join(err, conn.Close(t.Context())))

	owner, err := url.Parse(pg.DSN)
	require.NoError(t, err)
	owner.Path = "/lotline"
	config, err := stack.Configure(stack.Servers{
		Kafka: []string{kafka.Addr}, TopicPrefix: "lotline", PostgresURL: owner.String(),
		ClickHouse: p.clickHouse.Addr, Database: database, Replication: 1,
	})
	require.NoError(t, err)
	config.ClickHouseOwner = p.as(t, "lotline_migrate")
	config.Projector.ClickHouse = stores.ClickHouseSettings(p.as(t, "lotline_writer"))
	config.Gateway.ClickHouse = stores.ClickHouseSettings(p.as(t, "lotline_reader"))
	require.NoError(t, stack.Prepare(t.Context(), &config))
	past := newShop(time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -days), days).events
	publish(t, kafka.Addr, past)
	running, err := stack.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })
	live := p.live(t, "http://"+config.Gateway.HTTPAddr)
	p.settle(t, len(past)-refusals(past)+live)
	return p
}

func (p *pipeline) startClickHouse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clickhouse")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "users.d"), 0o755))
	for name, file := range map[string]string{"lotline.xml": "../../services/projector/clickhouse-users.xml", "dbt.xml": "../../compose/dbt/clickhouse-user.xml"} {
		users, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "users.d", name), users, 0o644))
	}
	for _, user := range []string{"migrate", "writer", "reader", "operator", "bi", "dbt"} {
		password := rand.Text()
		p.passwords["lotline_"+user] = password
		hash := sha256.Sum256([]byte(password))
		t.Setenv("LOTLINE_CLICKHOUSE_"+strings.ToUpper(user)+"_SHA256", hex.EncodeToString(hash[:]))
	}
	var err error
	p.clickHouse, err = servers.StartClickHouse(t.Context(), servers.Options{DataDir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.clickHouse.Stop()) })
}

func (p *pipeline) as(t *testing.T, user string) clickhouseclient.Config {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(p.passwords[user]), 0o600))
	return clickhouseclient.Config{Addrs: []string{p.clickHouse.Addr}, Database: database, User: user, PasswordFile: file}
}

// connect connects as a user, or as the owner of the server, who has no name and no password.
func (p *pipeline) connect(t *testing.T, user string) driver.Conn {
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{p.clickHouse.Addr}, Auth: clickhouse.Auth{Database: database, Username: user, Password: p.passwords[user]},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// publish puts events into the topic as an allocator did when their commands came, each SKU's in one partition.
func publish(t *testing.T, broker string, events []published) {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topics.Declared("lotline").Events.Name))
	require.NoError(t, err)
	defer client.Close()
	records := make([]*kgo.Record, len(events))
	for i, e := range events {
		records[i] = &kgo.Record{Key: []byte(e.SKU), Value: schemas.AppendEvent(nil, &e.Event), Headers: cloudevents.Headers(cloudevents.Envelope{
			ID: fmt.Sprintf("past/0/%d/%d", i, e.Seq), Source: "/lotline/allocator", Type: e.Type.CEType(), Time: e.at, ContentType: schemas.ContentTypeJSON,
		})}
	}
	require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
}

func refusals(events []published) (n int) {
	for _, e := range events {
		if !e.Type.ChangesState() {
			n++
		}
	}
	return n
}

// live sends commands through the whole of the pipeline, and returns how many events they lead to.
func (p *pipeline) live(t *testing.T, gateway string) int {
	post := func(path, body string) {
		response, err := http.Post(gateway+path, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Less(t, response.StatusCode, 300, body)
	}
	post("/add_batch", `{"ref":"live-1","sku":"WICKER-BASKET","qty":40,"eta":null}`)
	for order := range 12 {
		post("/allocate", fmt.Sprintf(`{"orderid":"live-%d","sku":"WICKER-BASKET","qty":4}`, order)) // two are out of stock
	}
	return 13
}

// settle waits until all events are in the views, and stops their refreshing, so that a picture and a query show the same.
func (p *pipeline) settle(t *testing.T, events int) {
	owner := p.connect(t, "")
	count := func(query string) (n uint64) {
		require.NoError(t, owner.QueryRow(t.Context(), query).Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return count("SELECT count() FROM bi_events") == uint64(events) }, within, 100*time.Millisecond)
	require.NoError(t, owner.Exec(t.Context(), "SYSTEM REFRESH VIEW mv_sku_hours"))
	require.Eventually(t, func() bool {
		return count("SELECT sum(lines_requested) FROM bi_hourly") == count("SELECT count() FROM bi_events WHERE is_request")
	}, within, 100*time.Millisecond)
	require.NoError(t, owner.Exec(t.Context(), "SYSTEM STOP VIEW mv_sku_hours"))
}

// venv fetches what a list of Python packages names, once.
func venv(t *testing.T, name, what string, then func(ctx context.Context, dir string) error) (dir string) {
	list, err := os.ReadFile(name + ".txt")
	require.NoError(t, err)
	version, err := exec.CommandContext(t.Context(), "python3", "-c", "import sys; print(sys.executable, sys.version)").Output()
	require.NoError(t, err, "this needs python3, 3.11, with venv")
	dir, err = cache.Folder{
		Name: name, What: what,
		Pins:  []cache.Pin{{Name: "requirements.txt", Text: list}, {Name: "interpreter", Text: version}},
		Tools: []cache.Tool{{Command: "python3", Needs: "Python, 3.11 or newer, with venv (Debian: python3-venv)"}},
		Fill: func(ctx context.Context, dir string) error {
			if err := cache.Run(ctx, dir, "python3", "-m", "venv", "venv"); err != nil {
				return err
			}
			if err := cache.Run(ctx, dir, "venv/bin/pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", "requirements.txt"); err != nil {
				return err
			}
			return then(ctx, dir)
		},
	}.Dir(t.Context())
	require.NoError(t, err)
	return dir
}

// supersetEnv is the environment of a Superset that has its data in a directory.
func supersetEnv(home, config string) []string {
	return append(os.Environ(), "SUPERSET_HOME="+home, "SUPERSET_CONFIG_PATH="+config, "FLASK_APP=superset", "TZ=UTC")
}

// superset imports the dashboard into a Superset of its own and holds what a browser sees of it to SQL.
func (p *pipeline) superset(t *testing.T) {
	chromium, chromiumEnv, err := browser.Installed(t.Context())
	require.NoError(t, err)
	config, err := filepath.Abs("superset_config.py")
	require.NoError(t, err)
	cached := venv(t, "superset", "Superset (1 GB from PyPI)", func(ctx context.Context, dir string) error {
		for _, args := range [][]string{
			{"db", "upgrade"}, {"fab", "create-admin", "--username=admin", "--password=admin", "--firstname=A", "--lastname=B", "--email=admin@localhost"}, {"init"},
		} {
			command := exec.CommandContext(ctx, filepath.Join(dir, "venv/bin/superset"), args...)
			command.Env = supersetEnv(dir, config)
			if out, err := command.CombinedOutput(); err != nil {
				return fmt.Errorf("superset %s: %w\n%s", args[0], err, out)
			}
		}
		return nil
	})
	home := t.TempDir()
	made, err := os.ReadFile(filepath.Join(cached, "superset.db"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(home, "superset.db"), made, 0o600))
	port, err := ports.Free()
	require.NoError(t, err)
	address := fmt.Sprintf("http://127.0.0.1:%d", port)
	var log bytes.Buffer
	server := exec.CommandContext(t.Context(), filepath.Join(cached, "venv/bin/superset"), "run", "--with-threads", fmt.Sprintf("--port=%d", port))
	server.Env, server.Stdout, server.Stderr = supersetEnv(home, config), &log, &log
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, server.Start())
	defer func() {
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
		_ = server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	require.Eventually(t, func() bool { return stack.Probe(t.Context(), address+"/health") == nil }, within, time.Second)

	picture, err := filepath.Abs("../../bin/dashboard.png")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(picture), 0o755))
	script := exec.CommandContext(t.Context(), filepath.Join(cached, "venv/bin/python"), "-B", "dashboard.py")
	script.Env = append(os.Environ(), "SUPERSET="+address, "CLICKHOUSE="+p.clickHouse.HTTPAddr, "CLICKHOUSE_PASSWORD="+p.passwords["lotline_bi"],
		"CHROMIUM="+chromium, "CHROMIUM_ENV="+strings.Join(chromiumEnv, "\n"), "SCREENSHOT="+picture)
	out, err := script.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%sits picture is %s", out, picture)
}

// dbt builds and tests the example's model, as a user who may write into a database of its own and nowhere else.
func (p *pipeline) dbt(t *testing.T) {
	cached := venv(t, "dbt", "dbt (100 MB from PyPI)", func(context.Context, string) error { return nil })
	host, port, _ := strings.Cut(p.clickHouse.HTTPAddr, ":")
	for _, command := range []string{"debug", "run", "test"} {
		dbt := exec.CommandContext(t.Context(), filepath.Join(cached, "venv/bin/dbt"), "--no-use-colors", command, "--profiles-dir=.")
		dbt.Dir = "../../compose/dbt"
		dbt.Env = append(os.Environ(), "DBT_TARGET_PATH="+t.TempDir(), "DBT_LOG_PATH="+t.TempDir(),
			"LOTLINE_DBT_HOST="+host, "LOTLINE_DBT_PORT="+port, "LOTLINE_DBT_PASSWORD="+p.passwords["lotline_dbt"])
		out, err := dbt.CombinedOutput()
		require.NoError(t, err, "dbt %s: %s", command, out)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Logf("dbt %s: %s", command, lines[len(lines)-1])
	}
	conn := p.connect(t, "lotline_dbt")
	require.NoError(t, conn.Exec(t.Context(), "SELECT * FROM lotline_marts.sku_days"))
	for _, sql := range []string{
		"CREATE TABLE lotline.x (x Int8) ENGINE = MergeTree ORDER BY x", "INSERT INTO lotline.outcomes (commandid) VALUES ('x')", "DROP VIEW lotline.bi_hourly",
		"SELECT count() FROM lotline.events", "CREATE DATABASE elsewhere", "DROP DATABASE lotline_marts",
	} {
		require.ErrorContains(t, conn.Exec(t.Context(), sql), "Not enough privileges", sql)
	}
}
