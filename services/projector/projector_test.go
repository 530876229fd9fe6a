package projector_test

import (
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
	err := projector.Config{BlockEventsMax: 100_001, FlushIntervalMax: 6 * time.Second, AdminAddr: "x"}.Validate()
	for _, fault := range []string{
		"no Kafka broker is given", "no ClickHouse server is given", "--block-events-max is 100001 and must be from 1 to 100000",
		"--flush-interval-max is 6s and must be from 50ms to 5s", `--admin-addr is "x" and must be of the form host:port`,
	} {
		require.ErrorContains(t, err, fault)
	}
}
