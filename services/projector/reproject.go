package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/topics"

	"github.com/lotline/lotline/services/projector/internal/clickhouse"
	"github.com/lotline/lotline/services/projector/internal/eventlog"
)

// Reproject takes some SKUs out of the read model and projects them again, from all events that the topic has, and
// returns how many these were. Readers find the SKUs missing, or as they once were, until it is done; if it fails half
// way, run it again.
//
// A projector may run meanwhile. The rows it writes before the deletion ends can be deleted with the rest, and so the
// end of the topic is looked up after the deletion: their events are below it. What it writes later stays, and has
// versions of its own.
func Reproject(ctx context.Context, kafka kafkaclient.Config, to clickhouseclient.Config, skus []string) (events int, err error) {
	if err := errors.Join(kafka.Validate(), to.Validate()); err != nil {
		return 0, err
	}
	writer, err := clickhouse.NewWriter(to, new(admin.Health), clickhouse.NewMetrics(prometheus.NewRegistry()), slog.Default())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	if err := writer.Forget(ctx, skus); err != nil {
		return 0, err
	}
	events, err = eventlog.Replay(ctx, topics.Declared(kafka.TopicPrefix).Events.Name, skus, kafka.Opts("lotline-projector"), writer)
	if err != nil {
		return events, fmt.Errorf("project %d SKUs again: %w", len(skus), err)
	}
	return events, nil
}
