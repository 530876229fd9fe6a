package projector_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/projector"
)

func TestDefaultsAreValid(t *testing.T) {
	cfg := projector.DefaultConfig()
	require.NoError(t, cfg.Validate())
	require.Equal(t, 500*time.Millisecond, cfg.FlushIntervalMax)
	require.Equal(t, "127.0.0.1:9082", cfg.AdminAddr, "beside the allocator's 9081 and the gateway's 9083")
}

func TestValidateNamesEveryFault(t *testing.T) {
	cfg := projector.Config{BlockEventsMax: 100_001, FlushIntervalMax: 6 * time.Second, FlushIntervalMin: 7 * time.Second, AdminAddr: "x"}
	cfg.ReadModel = "clickhouse"
	err := cfg.Validate()
	for _, fault := range []string{
		"no Kafka broker is given", "no ClickHouse server is given", "--block-events-max is 100001 and must be from 1 to 100000",
		"--flush-interval-max is 6s and must be from 50ms to 5s", "--flush-interval-min is 7s and must be from 50ms to --flush-interval-max", `--admin-addr is "x" and must be of the form host:port`,
	} {
		require.ErrorContains(t, err, fault)
	}
}

func TestOnlyTheChosenStoreIsValidated(t *testing.T) {
	cfg := projector.DefaultConfig()
	cfg.ClickHouse.Addrs, cfg.ReadPostgres.Schema = nil, "No Schema"
	require.ErrorContains(t, cfg.Validate(), "no ClickHouse server is given")
	require.NotContains(t, cfg.Validate().Error(), "No Schema")
	cfg.ReadModel = "postgres"
	require.ErrorContains(t, cfg.Validate(), "No Schema")
	require.NotContains(t, cfg.Validate().Error(), "ClickHouse")
	cfg.Postgres.PostgresURL = "postgres://lotline@127.0.0.1/lotline"
	cfg.ReadPostgres.Schema = "lotline_read"
	require.NoError(t, cfg.Validate(), "each kept read model can be audited")
	cfg.ReadModel = "write-side"
	require.ErrorContains(t, cfg.Validate(), "without a projector")
	cfg.ReadModel = "mongo"
	require.ErrorContains(t, cfg.Validate(), `--read-model is "mongo"`)
}

func TestProfilesAreServedOnlyIfAskedFor(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close()) // a projector waits for its servers
	for _, asked := range []bool{false, true} {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		cfg := projector.DefaultConfig()
		cfg.Kafka.Brokers, cfg.ClickHouse.Addrs = []string{nobody.Addr().String()}, []string{nobody.Addr().String()}
		cfg.AdminAddr, cfg.AdminProfiles = free.Addr().String(), asked
		require.NoError(t, free.Close())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- projector.Run(ctx, cfg) }()

		status, body := 0, ""
		require.Eventually(t, func() bool {
			response, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/heap?debug=1", cfg.AdminAddr))
			if err != nil {
				return false
			}
			defer response.Body.Close()
			read, err := io.ReadAll(response.Body)
			status, body = response.StatusCode, string(read)
			return err == nil
		}, 10*time.Second, 10*time.Millisecond)
		if asked {
			require.Equal(t, http.StatusOK, status)
			require.Contains(t, body, "heap profile:")
		} else {
			require.Equal(t, http.StatusNotFound, status)
		}
		stop()
		require.NoError(t, <-ended)
	}
}
