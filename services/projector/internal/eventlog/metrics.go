package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/lotline/lotline/pkg/kafkaclient"
)

const (
	lagInterval = 5 * time.Second
	lagRetry    = time.Second // after it could not be measured
	lagTimeout  = 5 * time.Second
	// component is the connection's name in the readiness report.
	component = "kafka"
)

// Metrics are what the consumer counts. METRICS.md lists the names.
type Metrics struct {
	events      prometheus.Counter
	blockEvents prometheus.Histogram
	lag         *prometheus.GaugeVec
	stopped     *prometheus.GaugeVec
	ageSeconds  prometheus.Histogram
	rebalances  *prometheus.CounterVec

	insertSeconds prometheus.Histogram
	insertRetries *prometheus.CounterVec
	asides        prometheus.Gauge
}

// Values of the label change.
const (
	changeAssigned = "assigned"
	changeReleased = "released"
)

// NewMetrics registers the consumer's metrics. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lotline_projector_events_total",
			Help: "Events written to the read model and acknowledged; one that was read twice counts twice.",
		}),
		blockEvents: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lotline_projector_block_events",
			Help:    "Events in an acknowledged block.",
			Buckets: []float64{1, 10, 100, 1000, 2500, 5000, 10000, 20000, 50000, 100000},
		}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lotline_projector_lag_offsets",
			Help: "Offsets between the end of the committed events of a partition and what is projected of it; 0 when all is projected.",
		}, []string{"partition"}),
		stopped: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lotline_projector_partition_stopped",
			Help: "1 if the partition was stopped by a record that is no event or by lost data, else 0.",
		}, []string{"partition"}),
		ageSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lotline_projector_event_age_seconds",
			Help:    "Age of an event when it was projected: from the broker's append time of its command to the read model's acknowledgement.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200},
		}),
		rebalances: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lotline_projector_rebalances_total",
			Help: "Times that partitions were assigned to this process, or taken from it.",
		}, []string{"change"}),
		insertSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lotline_projector_insert_duration_seconds",
			Help:    "Time that the read model took to acknowledge a block, in seconds; failed attempts are not in it.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}),
		insertRetries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lotline_projector_insert_retries_total",
			Help: "Attempts to write a block that failed and were made again, by what the read model asked for.",
		}, []string{"reason"}),
		asides: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lotline_projector_set_aside_events",
			Help: "Events that the read model lacks: it refused them, or nobody has them.",
		}),
	}
	reg.MustRegister(m.events, m.blockEvents, m.lag, m.stopped, m.ageSeconds, m.rebalances, m.insertSeconds, m.insertRetries, m.asides)
	for _, change := range []string{changeAssigned, changeReleased} {
		m.rebalances.WithLabelValues(change) // there from the start, so that a rate can be taken
	}
	for _, reason := range []string{reasonOutage, reasonOverloaded, reasonRefused} {
		m.insertRetries.WithLabelValues(reason)
	}
	return m
}

// watchLag measures the lag of the partitions that this process owns until ctx ends. That it cannot is how a
// Kafka that is away becomes known: the client itself waits for it in silence.
func (c *Consumer) watchLag(ctx context.Context, admin *kadm.Client) error {
	var logged time.Time
	for {
		err := c.measureLag(ctx, admin)
		if err == nil && c.owned.refused() {
			if err = c.mayRead(ctx); err == nil {
				c.owned.permitted()
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = kafkaclient.Explain(err)
		if err != nil && time.Since(logged) >= lagInterval {
			logged = time.Now()
			c.log.Warn("could not measure the lag", "error", err)
		}
		c.health.Set(component, err)
		pause := lagInterval
		if err != nil {
			pause = lagRetry // it is waited for
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// mayRead asks Kafka whether events may be read: on a quiet partition no event comes to say so.
func (c *Consumer) mayRead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	return kafkaclient.Check(ctx, c.client, map[string]kadm.ACLOperation{c.cfg.Topic: kadm.OpRead})
}

func (c *Consumer) measureLag(ctx context.Context, admin *kadm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	ends, err := admin.ListCommittedOffsets(ctx, c.cfg.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("read the ends of %s: %w", c.cfg.Topic, err)
	}
	starts, err := admin.ListStartOffsets(ctx, c.cfg.Topic)
	if err != nil {
		return fmt.Errorf("read the starts of %s: %w", c.cfg.Topic, err)
	}
	projected, err := admin.FetchOffsets(ctx, c.cfg.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // which comes with its first member
		return fmt.Errorf("read the offsets of group %s: %w", c.cfg.Group, err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		if !c.owned.has(end.Partition) {
			return
		}
		at := int64(0)
		if start, ok := starts.Lookup(end.Topic, end.Partition); ok {
			at = start.Offset
		}
		if committed, ok := projected.Lookup(end.Topic, end.Partition); ok && committed.At >= 0 {
			at = committed.At
		}
		c.metrics.lag.WithLabelValues(label(end.Partition)).Set(float64(max(0, end.Offset-at)))
	})
	return nil
}
