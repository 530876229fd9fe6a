package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/topics"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const allocate = `{"orderid":"o1","sku":"CHAIR","qty":3}`

func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// start runs a gateway with a Kafka of its own and a ClickHouse that is away,
// until the test ends.
func start(t *testing.T, changes ...func(*gateway.Config)) (base string, cluster *kfake.Cluster) {
	t.Helper()
	cfg := gateway.DefaultConfig()
	set := topics.Declared(cfg.Kafka.TopicPrefix)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, set.Commands.Name, set.Events.Name))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg.Kafka.Brokers = cluster.ListenAddrs()
	cfg.ClickHouse.Addrs = []string{freeAddr(t)}
	cfg.HTTPAddr, cfg.AdminAddr = freeAddr(t), ""
	for _, change := range changes {
		change(&cfg)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- gateway.Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	base = "http://" + cfg.HTTPAddr
	require.Eventually(t, func() bool {
		status, body := ask(t, http.MethodGet, base+"/readyz", "")
		return status == 503 && strings.Contains(body, "Not ready: clickhouse\"")
	}, 10*time.Second, 20*time.Millisecond, "Kafka and the tail are ready, ClickHouse is not")
	return base, cluster
}

// ask returns status 0 if nobody listens yet.
func ask(t *testing.T, method, url, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(content)
}

// decide answers each command with what an allocator that knows no sku but
// CHAIR would say.
func decide(t *testing.T, cluster *kfake.Cluster) {
	t.Helper()
	set := topics.Declared("lotline")
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics(set.Commands.Name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() { client.Close(); <-done })
	go func() {
		defer close(done)
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			for record := range fetches.RecordsAll() {
				envelope, _ := cloudevents.Parse(record.Headers)
				event := schemas.Event{
					Type: schemas.EventAllocated, SKU: string(record.Key), Version: 1, CommandID: envelope.ID, CommandSource: envelope.Source,
					Last: true, OrderID: "o1", BatchRef: "b1", Qty: 3,
				}
				if event.SKU != "CHAIR" {
					event.Type, event.Reason, event.Message = schemas.EventCommandRejected, "invalid_sku", "never seen"
				}
				client.Produce(context.Background(), &kgo.Record{
					Topic: set.Events.Name, Key: record.Key, Value: schemas.AppendEvent(nil, &event),
					Headers: cloudevents.Headers(cloudevents.Envelope{ID: "e", Type: event.Type.CEType()}),
				}, nil)
			}
		}
	}()
}

func TestProfilesAreServedOnlyIfAskedFor(t *testing.T) {
	for _, asked := range []bool{false, true} {
		admin := freeAddr(t)
		start(t, func(cfg *gateway.Config) { cfg.AdminAddr, cfg.AdminProfiles = admin, asked })
		status, body := ask(t, http.MethodGet, "http://"+admin+"/debug/pprof/heap?debug=1", "")
		if !asked {
			require.Equal(t, http.StatusNotFound, status)
			continue
		}
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, "heap profile:")
	}
}

func TestWritesGoOnWithoutClickHouse(t *testing.T) {
	base, cluster := start(t)
	decide(t, cluster)
	status, body := ask(t, http.MethodPost, base+"/allocate", allocate)
	require.Equal(t, 202, status, body)
	require.Contains(t, body, `"outcome":"Allocated"`)
	status, body = ask(t, http.MethodPost, base+"/allocate", `{"orderid":"o1","sku":"NO-CHAIR","qty":3}`)
	require.Equal(t, 400, status)
	require.Equal(t, "{\"message\":\"Invalid sku NO-CHAIR\"}\n", body)

	for _, path := range []string{"/allocations/o1", "/commands/c1"} {
		began := time.Now()
		status, body = ask(t, http.MethodGet, base+path, "")
		require.Equal(t, 503, status)
		require.Contains(t, body, "The read model has not answered since 20")
		require.Less(t, time.Since(began), 3*time.Second)
	}
	status, _ = ask(t, http.MethodGet, base+"/healthz", "")
	require.Equal(t, 200, status)
}

// The console and the API share an address: what stands before the API must leave its paths alone.
func TestAnEmptySegmentIsNoRedirect(t *testing.T) {
	base, _ := start(t)
	status, body := ask(t, http.MethodPost, base+"/orders//lines", `{"sku":"CHAIR","qty":3}`)
	require.Equal(t, 400, status)
	require.Contains(t, body, "The orderid must not be empty")
}

func TestKafkaAwayIsSaidWithinASecond(t *testing.T) {
	base, cluster := start(t)
	cluster.Close()
	for i := range 3 {
		began := time.Now()
		status, body := ask(t, http.MethodPost, base+"/allocate", allocate)
		require.Equal(t, 503, status, fmt.Sprint(i, body))
		require.Contains(t, body, "Kafka did not acknowledge the command in time")
		require.Less(t, time.Since(began), time.Second)
	}
	require.Eventually(t, func() bool {
		_, body := ask(t, http.MethodGet, base+"/readyz", "")
		return strings.Contains(body, "kafka")
	}, 10*time.Second, 50*time.Millisecond, "readiness follows")
}

func TestValidateNamesEveryFault(t *testing.T) {
	require.NoError(t, gateway.DefaultConfig().Validate())
	cfg := gateway.Config{HTTPAddr: "x", OutcomeWait: 2, OutcomeWaitMax: 1, CacheBytesMax: 1000}
	cfg.ReadModel = "clickhouse"
	err := cfg.Validate()
	for _, fault := range []string{
		"no Kafka broker is given", `the HTTP address "x" is not of the form host:port`, "no ClickHouse server is given",
		"the name of the ClickHouse database is empty", "the wait for an outcome, 2ns, is not from 0s to the longest, 1ns", "with at most 0 requests at once",
		"a cache of 1000 bytes is too small: give it 1048576 or more, or 0 for none",
	} {
		require.ErrorContains(t, err, fault)
	}
}

func TestOnlyTheChosenStoreIsValidated(t *testing.T) {
	cfg := gateway.DefaultConfig()
	cfg.ClickHouse.Addrs, cfg.WriteSide.PostgresURL = nil, "no url"
	require.ErrorContains(t, cfg.Validate(), "no ClickHouse server is given")
	cfg.ReadModel = "postgres"
	require.NoError(t, cfg.Validate())
	cfg.ReadModel = "write-side"
	require.ErrorContains(t, cfg.Validate(), "use the Postgres URL")
	cfg.ReadModel = "mongo"
	require.ErrorContains(t, cfg.Validate(), `--read-model is "mongo"`)
}

func TestOnlyThisMachineMayDoWithoutKeys(t *testing.T) {
	_, line, err := apikeys.New("shop", apikeys.Read)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte(line), 0o600))
	for _, test := range []struct {
		addr, file  string
		withoutKeys bool
		fault       string
	}{
		{"127.0.0.1:80", "", false, ""},
		{"[::1]:80", "", false, ""},
		{"localhost:80", "", false, ""},
		{":80", "", false, "other machines can reach"},
		{"0.0.0.0:80", "", false, "other machines can reach"},
		{"[::]:80", "", false, "other machines can reach"},
		{"10.1.2.3:80", "", false, "other machines can reach"},
		{"gateway.example:80", "", false, "other machines can reach"},
		{":80", "", true, ""},
		{":80", file, false, ""},
		{":80", file, true, "contradict each other"},
		{":80", file + ".none", false, "read the API keys"},
		{"127.0.0.1:80", file + ".none", false, "read the API keys"},
	} {
		cfg := gateway.DefaultConfig()
		cfg.HTTPAddr, cfg.HTTPKeysFile, cfg.HTTPWithoutKeys = test.addr, test.file, test.withoutKeys
		err := cfg.Validate()
		if test.fault == "" {
			require.NoError(t, err, test)
		} else {
			require.ErrorContains(t, err, test.fault, test)
		}
	}
}

func TestKeysAreTakenIn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	shop, shopLine, err := apikeys.New("shop", apikeys.Read, apikeys.Write)
	require.NoError(t, err)
	other, otherLine, err := apikeys.New("other", apikeys.Write)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(shopLine), 0o600))
	base, cluster := start(t, func(c *gateway.Config) { c.HTTPKeysFile = file })
	decide(t, cluster)
	allocates := func(key string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/allocate", strings.NewReader(allocate))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for path, want := range map[string]int{"/": 200, "/console/static/app.css": 200, "/healthz": 200, "/console/search?q=x": 401, "/commands/c": 401, "/nothing": 404} {
		status, body := ask(t, http.MethodGet, base+path, "")
		require.Equal(t, want, status, "%s: %s", path, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/console/dead-letters/answer", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+shop)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 403, resp.StatusCode, "answering dead letters is for admins")
	require.Equal(t, 202, allocates(shop))
	require.Equal(t, 401, allocates(other))
	require.NoError(t, os.WriteFile(file, []byte(otherLine), 0o600))
	require.Eventually(t, func() bool { return allocates(other) == 202 && allocates(shop) == 401 }, 10*time.Second, 200*time.Millisecond)
}

func TestFloodsAndSlowClients(t *testing.T) {
	base, cluster := start(t)
	addr := strings.TrimPrefix(base, "http://")
	slow := make(chan error, 1)
	began := time.Now()
	go func() { // headers that never end are not waited for
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			defer conn.Close()
			_, err = conn.Write([]byte("POST /allocate HTTP/1.1\r\nHost: gateway\r\n"))
		}
		if err == nil {
			err = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		}
		if err == nil {
			_, err = io.ReadAll(conn)
		}
		slow <- err
	}()

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/healthz", nil)
	require.NoError(t, err)
	for i := range 2000 {
		req.Header.Set(fmt.Sprintf("X-Flood-%d", i), "a header of many")
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)

	req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/allocate", strings.NewReader(strings.Repeat(" ", 10<<20)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Expect", "100-continue") // or the client may see the connection break before the answer
	resp, err = http.DefaultClient.Do(req)
	if err == nil {
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	} else {
		require.ErrorContains(t, err, "write") // refused while it was being sent
	}

	require.NoError(t, <-slow, "the connection is closed, not left open")
	require.Less(t, time.Since(began), 10*time.Second)
	for partition := range int32(2) {
		require.Zero(t, cluster.PartitionInfo(topics.Declared("lotline").Commands.Name, partition).HighWatermark, "nothing reached Kafka")
	}
}

// A question that waits for its token, for longer than a stopping process waits for requests, is answered all the same: the process
// ends well, and the client may ask another.
func TestStopAnswersAQuestionThatWaitsForItsToken(t *testing.T) {
	answered := make(chan int, 1)
	t.Cleanup(func() { require.Equal(t, http.StatusServiceUnavailable, <-answered) }) // after the gateway was stopped
	base, cluster := start(t)
	var fetches atomic.Int32 // of offsets: every 20 ms while a question waits, and now and then for the cache
	cluster.ControlKey(int16(kmsg.OffsetFetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, base+"/availability/CHAIR?after="+projected.Token{0: 0}.String(), nil)
	require.NoError(t, err)
	req.Header.Set("Prefer", "wait=10")
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	require.Eventually(t, func() bool { return fetches.Load() > 20 }, 8*time.Second, 10*time.Millisecond)
}
