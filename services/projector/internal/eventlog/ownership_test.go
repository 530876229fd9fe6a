package eventlog

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/admin"
)

func TestFailureIsReportedOnThePartitionThatHasIt(t *testing.T) {
	health := new(admin.Health)
	log := slog.New(slog.DiscardHandler)
	c := &Consumer{cfg: Config{Topic: topic, Group: group}, health: health, log: log, owned: newOwnership(topic, health, NewMetrics(prometheus.NewRegistry()), log)}
	c.assigned(t.Context(), nil, map[string][]int32{topic: {0, 1}})

	c.fetchFailed("", 0, &kgo.ErrGroupSession{Err: kerr.GroupAuthorizationFailed})
	require.Contains(t, health.Ready()[group], "grant it with `lotline topics apply")
	require.Len(t, health.Ready(), 1, "the group's failure is not partition 0's")
	c.assigned(t.Context(), nil, nil)
	require.Empty(t, health.Ready(), "it is in the group again, though with nothing new")

	c.fetchFailed(topic, 1, errors.New("not allowed"))
	require.Contains(t, health.Ready()[topic+"/1"], "not allowed")
	require.Len(t, health.Ready(), 1)
	c.owned.permitted()
	require.Len(t, health.Ready(), 1, "that was another trouble")
	_, ok := c.owned.running(1) // its records came
	require.True(t, ok)
	require.Empty(t, health.Ready())

	require.False(t, c.owned.refused())
	c.fetchFailed(topic, 0, kerr.TopicAuthorizationFailed)
	require.True(t, c.owned.refused())
	c.owned.permitted()
	require.False(t, c.owned.refused())
	require.Empty(t, health.Ready(), "no record has to come first")
}

// The first projector of an installation looks before it has joined the group, which begins with it.
func TestALagBeforeTheGroupIsThereIsNoFailure(t *testing.T) {
	b := newBroker(t)
	c := &Consumer{cfg: Config{Topic: topic, Group: group}, owned: newOwnership(topic, new(admin.Health), nil, slog.New(slog.DiscardHandler))}
	_, err := b.adm.FetchOffsets(t.Context(), group)
	require.ErrorIs(t, err, kerr.GroupIDNotFound)
	require.NoError(t, c.measureLag(t.Context(), b.adm))
}
