package eventlog

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/admin"
)

// A quiet partition brings no events that would show that it can be read again.
func TestTroubleOfAQuietPartitionPasses(t *testing.T) {
	health := new(admin.Health)
	o := newOwnership(topic, health, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	o.assigned(t.Context(), nil, map[string][]int32{topic: {0, 1}})
	start := time.Now()
	o.troubled(0, errors.New("not allowed"))
	require.Contains(t, health.Ready()[topic+"/0"], "not allowed")
	o.calm(start)
	require.Contains(t, health.Ready(), topic+"/0", "it failed since")
	require.True(t, o.stop(1, errors.New("no event")))
	o.calm(time.Now().Add(time.Second))
	require.NotContains(t, health.Ready(), topic+"/0")
	require.Contains(t, health.Ready(), topic+"/1", "a stop is no passing trouble")
}
