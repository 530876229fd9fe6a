package eventlog

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/admin"
)

func TestFailureIsReportedOnThePartitionThatHasIt(t *testing.T) {
	health := new(admin.Health)
	c := &Consumer{cfg: Config{Topic: topic}, owned: newOwnership(topic, health, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))}
	c.owned.assigned(t.Context(), nil, map[string][]int32{topic: {0, 1}})

	c.fetchFailed("", 0, &kgo.ErrGroupSession{Err: errors.New("the group is gone")})
	require.Empty(t, health.Ready(), "the group's failure is not partition 0's")

	c.fetchFailed(topic, 1, errors.New("not allowed"))
	require.Contains(t, health.Ready()[topic+"/1"], "not allowed")
	require.Len(t, health.Ready(), 1)
	_, ok := c.owned.running(1) // its records came
	require.True(t, ok)
	require.Empty(t, health.Ready())
}
