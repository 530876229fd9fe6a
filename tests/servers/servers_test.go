//go:build integration

package servers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/shirou/gopsutil/v4/process"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/tests/servers"
)

// orphanVariable makes this program start a kfake in the named directory, print its pid and wait to be killed.
const orphanVariable = "LOTLINE_TEST_ORPHAN_DIR"

func TestMain(m *testing.M) {
	servers.Init()
	if dir := os.Getenv(orphanVariable); dir != "" {
		startAndWait(dir)
	}
	os.Exit(m.Run())
}

func startAndWait(dir string) {
	if _, err := servers.StartKfake(context.Background(), servers.Options{DataDir: dir}); err != nil {
		panic(err)
	}
	self, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		panic(err)
	}
	children, err := self.Children()
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(int(children[0].Pid)) + "\n")
	select {}
}

// store is a server kind as these tests use it: one value that is written and read back.
type store struct {
	start func(context.Context, servers.Options) (*servers.Server, error)
	write func(context.Context, *servers.Server) error
	read  func(context.Context, *servers.Server) (string, error)
}

func stores() map[string]store {
	return map[string]store{
		"postgres": {
			start: servers.StartPostgres,
			write: func(ctx context.Context, s *servers.Server) error {
				_, err := postgres(ctx, s, "CREATE TABLE chair AS SELECT 'red' AS colour")
				return err
			},
			read: func(ctx context.Context, s *servers.Server) (string, error) {
				return postgres(ctx, s, "SELECT colour FROM chair")
			},
		},
		"clickhouse": {
			start: servers.StartClickHouse,
			write: func(ctx context.Context, s *servers.Server) error {
				_, err := clickhouse(ctx, s, "CREATE TABLE chair ENGINE = MergeTree ORDER BY () AS SELECT 'red' AS colour")
				return err
			},
			read: func(ctx context.Context, s *servers.Server) (string, error) {
				return clickhouse(ctx, s, "SELECT colour FROM chair")
			},
		},
		"kafka": {start: servers.StartKafka, write: produce, read: consume},
		"kfake": {start: servers.StartKfake, write: produce, read: consume},
	}
}

func TestDataOutlivesKillPauseAndStop(t *testing.T) {
	for name, kind := range stores() {
		t.Run(name, func(t *testing.T) {
			options := servers.Options{DataDir: filepath.Join(t.TempDir(), name)}
			s, err := kind.start(t.Context(), options)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Stop()) })
			check := func() {
				t.Helper()
				value, err := kind.read(t.Context(), s)
				require.NoError(t, err)
				require.Equal(t, "red", value)
			}
			require.NoError(t, kind.write(t.Context(), s))
			check()

			require.NoError(t, s.Pause())
			impatient, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err = kind.read(impatient, s)
			require.Error(t, err, "a paused server answered")
			require.NoError(t, s.Resume())
			check()

			require.NoError(t, s.Kill())
			require.Error(t, s.Pause(), "paused what does not run")
			require.NoError(t, s.Restart(t.Context()))
			require.Error(t, s.Restart(t.Context()), "started twice")
			check()

			require.NoError(t, s.Pause(), "a paused server can be stopped")
			require.NoError(t, s.Stop())
			require.NoError(t, s.Stop(), "stopping twice is no error")

			again, err := kind.start(t.Context(), options)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, again.Stop()) })
			s = again
			check()
		})
	}
}

// "clickhouse local", which this server is made of, would end with any of these connections.
func TestClickHouseOutlivesItsConnections(t *testing.T) {
	s, err := servers.StartClickHouse(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "clickhouse")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	native := func(database string) error {
		conn, err := chgo.Open(&chgo.Options{Addr: []string{s.Addr}, Auth: chgo.Auth{Database: database}})
		require.NoError(t, err)
		defer conn.Close()
		return conn.Ping(t.Context())
	}
	for range 3 {
		conn, err := net.Dial("tcp", s.Addr)
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).SetLinger(0), "closing resets the connection")
		require.NoError(t, conn.Close())
		require.ErrorContains(t, native("nowhere"), "nowhere does not exist")
		require.NoError(t, native("default"))
	}
}

func TestServersDieWithTheirStarter(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	starter := exec.Command(self)
	starter.Env = append(os.Environ(), orphanVariable+"="+filepath.Join(t.TempDir(), "kfake"))
	out, err := starter.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, starter.Start())
	line := make([]byte, 32)
	n, err := out.Read(line)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	require.NoError(t, err)
	require.NoError(t, starter.Process.Kill())
	require.Error(t, starter.Wait(), "it was killed")
	require.Eventually(t, func() bool {
		p, err := process.NewProcess(int32(pid))
		if err != nil {
			return true
		}
		status, err := p.Status()
		return err != nil || status[0] == process.Zombie
	}, 10*time.Second, 20*time.Millisecond, "the server outlived its starter")
}

func TestMissingToolsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := servers.StartKafka(t.Context(), servers.Options{DataDir: t.TempDir()})
	require.ErrorContains(t, err, "default-jre-headless")
	require.ErrorContains(t, err, "Debian: maven")
}

func postgres(ctx context.Context, s *servers.Server, query string) (string, error) {
	conn, err := pgx.Connect(ctx, s.DSN)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return "", err
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(values, ","), err
}

func clickhouse(ctx context.Context, s *servers.Server, query string) (string, error) {
	address := url.URL{Scheme: "http", Host: s.HTTPAddr, RawQuery: "query=" + url.QueryEscape(query)}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", errors.New(string(body))
	}
	return string(bytes.TrimSpace(body)), nil
}

func produce(ctx context.Context, s *servers.Server) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr))
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, 1, nil, "chair"); err != nil {
		return err
	}
	return client.ProduceSync(ctx, &kgo.Record{Topic: "chair", Value: []byte("red")}).FirstErr()
}

func consume(ctx context.Context, s *servers.Server) (string, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr), kgo.ConsumeTopics("chair"))
	if err != nil {
		return "", err
	}
	defer client.Close()
	fetches := client.PollRecords(ctx, 1)
	if err := fetches.Err(); err != nil {
		return "", err
	}
	return string(fetches.Records()[0].Value), nil
}

func TestPostgresHasTheSettingsThatItIsGiven(t *testing.T) {
	s, err := servers.StartPostgres(t.Context(), servers.Options{DataDir: filepath.Join(t.TempDir(), "postgres"), Settings: []string{"max_wal_size=77MB"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	answer, err := postgres(t.Context(), s, "SELECT current_setting('max_wal_size')")
	require.NoError(t, err)
	require.Equal(t, "77MB", answer)
}

// A base backup is Postgres as it was then: what came later is not in it, and it takes writes again.
func TestARestoredPostgresIsWhatWasBackedUp(t *testing.T) {
	dir := t.TempDir()
	s, err := servers.StartPostgres(t.Context(), servers.Options{DataDir: filepath.Join(dir, "postgres")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	execute := func(sql string) string {
		t.Helper()
		answer, err := postgres(t.Context(), s, sql)
		require.NoError(t, err)
		return answer
	}
	execute("CREATE TABLE chair AS SELECT 'red' AS colour")
	require.NoError(t, servers.BackUpPostgres(t.Context(), s, filepath.Join(dir, "base.tar")))
	execute("UPDATE chair SET colour = 'blue'")
	require.Error(t, servers.RestorePostgres(s, filepath.Join(dir, "base.tar")), "it runs")
	require.NoError(t, s.Kill())
	require.NoError(t, servers.RestorePostgres(s, filepath.Join(dir, "base.tar")))
	require.NoError(t, s.Restart(t.Context()))
	require.Equal(t, "red", execute("SELECT colour FROM chair"))
	execute("UPDATE chair SET colour = 'green'")
	require.Equal(t, "green", execute("SELECT colour FROM chair"))
}
