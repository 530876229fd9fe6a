//go:build integration

package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
)

// newPrefix names keys of the test's own on the real server, and deletes them at the end.
func newPrefix(t testing.TB) Config {
	t.Helper()
	addr := os.Getenv("LOTLINE_TEST_REDIS")
	require.NotEmpty(t, addr, "LOTLINE_TEST_REDIS must be the host:port of a Redis server: run `make test`")
	cfg := Config{Addr: addr, Prefix: fmt.Sprintf("test-%016x", rand.Uint64())}
	t.Cleanup(func() {
		ctx, client := context.WithoutCancel(t.Context()), cfg.connect(5*time.Second, 1)
		defer client.Close()
		names := client.Scan(ctx, 0, cfg.Prefix+":*", 1000).Iterator()
		for names.Next(ctx) {
			require.NoError(t, client.Unlink(ctx, names.Val()).Err())
		}
		require.NoError(t, names.Err())
	})
	return cfg
}

func newWriter(t testing.TB, cfg Config) *Writer {
	w := NewWriter(cfg)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return w
}

func newReader(t testing.TB, cfg Config) *Reader {
	r := NewReader(cfg, 5*time.Second)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func TestConforms(t *testing.T) {
	readmodeltest.Conform(t, readmodeltest.Store{
		KeepsOutcomes: true, KeepsBatchVersions: true, HasGenerations: true, Ledger: true,
		Open: func(t *testing.T) readmodeltest.Place {
			cfg := newPrefix(t)
			return readmodeltest.Place{
				Reader: newReader(t, cfg),
				Writer: func(t *testing.T) readmodel.Writer { return newWriter(t, cfg) },
				Generations: func(t *testing.T) readmodel.Generations {
					g := NewGenerations(cfg)
					t.Cleanup(func() { require.NoError(t, g.Close()) })
					return g
				},
				Refuse: func(t *testing.T, sku string) func() {
					client, key := cfg.connect(5*time.Second, 1), keys{prefix: cfg.Prefix, generation: firstGeneration}.sku(sku)
					t.Cleanup(func() { require.NoError(t, client.Close()) })
					require.NoError(t, client.Set(t.Context(), key, "somebody's own", 0).Err())
					return func() { require.NoError(t, client.Del(t.Context(), key).Err()) }
				},
			}
		},
	})
}

func BenchmarkApply(b *testing.B) {
	w := newWriter(b, newPrefix(b))
	records := readmodeltest.New(1, 10_000).Records
	for b.Loop() {
		require.NoError(b, w.Apply(b.Context(), records))
	}
	b.ReportMetric(float64(len(records)*b.N)/b.Elapsed().Seconds(), "events/s")
}

// A server that was restarted has forgotten the script.
func TestTheScriptIsLoadedAgain(t *testing.T) {
	cfg, h := newPrefix(t), readmodeltest.New(3, 300)
	w := newWriter(t, cfg)
	require.NoError(t, w.Apply(t.Context(), h.Records))
	require.NoError(t, w.client.ScriptFlush(t.Context()).Err())
	require.NoError(t, w.Apply(t.Context(), h.Records))
	_, err := newReader(t, cfg).Orders(t.Context(), []string{"o1"})
	require.NoError(t, err)
}

// What Redis would lose, the offsets would still call projected.
func TestCheckRefusesAServerThatForgets(t *testing.T) {
	w := newWriter(t, newPrefix(t))
	require.NoError(t, w.Check(t.Context()))
	set := func(name, value string) { require.NoError(t, w.client.ConfigSet(t.Context(), name, value).Err()) }
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		client := newPrefix(t).connect(time.Second, 1)
		defer client.Close()
		for name, value := range map[string]string{"appendonly": "yes", "maxmemory": "0", "maxmemory-policy": "noeviction"} {
			require.NoError(t, client.ConfigSet(ctx, name, value).Err())
		}
	})
	set("maxmemory", "1gb")
	require.NoError(t, w.Check(t.Context()), "full is an outage")
	set("maxmemory-policy", "allkeys-lru")
	require.ErrorContains(t, w.Check(t.Context()), "set maxmemory-policy to noeviction")
	set("appendonly", "no")
	require.ErrorContains(t, w.Check(t.Context()), "set appendonly to yes")
	// So does a writer that was there before the server was started anew, and knows it by the script that is gone.
	require.NoError(t, w.Apply(t.Context(), readmodeltest.New(3, 3).Records))
	require.NoError(t, w.client.ScriptFlush(t.Context()).Err())
	require.ErrorContains(t, w.Apply(t.Context(), readmodeltest.New(3, 3).Records), "set appendonly to yes")
}

func TestAQuestionToADeadServerEnds(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() // accepts connections, and never answers
	r := NewReader(Config{Addr: listener.Addr().String(), Prefix: "x"}, 500*time.Millisecond)
	defer r.Close()
	start := time.Now()
	_, err = r.Orders(t.Context(), []string{"o1"})
	require.Error(t, err)
	require.Error(t, r.Check(t.Context()))
	require.Less(t, time.Since(start), 8*time.Second)
}

func TestValidate(t *testing.T) {
	require.NoError(t, Config{Addr: "127.0.0.1:6379", Prefix: "lotline"}.Validate())
	err := Config{Addr: "redis", Prefix: "a b", PasswordFile: "/no/such/file"}.Validate()
	for _, fault := range []string{"--redis-addr", "--redis-prefix", "--redis-password-file"} {
		require.ErrorContains(t, err, fault)
	}
}
