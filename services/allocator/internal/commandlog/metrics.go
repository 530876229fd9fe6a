package commandlog

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of all workers of a process.
type Metrics struct {
	commands, events, deadLetters prometheus.Counter
	keyMismatches                 prometheus.Counter
	refusals, locked              prometheus.Counter
	transactions, aborts, mended  prometheus.Counter
	sessions, rebalances          prometheus.Counter
	recovered, compared           prometheus.Counter
	halts                         halts
	lag                           *prometheus.GaugeVec
	stepSeconds                   *prometheus.HistogramVec
	pollCommands, commandSeconds  prometheus.Histogram
	orderSeconds                  prometheus.Histogram
	warnKeyOnce, warnSharedOnce   sync.Once
}

// Values of the labels.
const (
	stageApplied, stagePublished = "applied", "published"
	stepApply, stepPublish       = "apply", "publish"
)

// ageBuckets reach from one poll to an outage of a night.
var ageBuckets = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200}

// NewMetrics makes the metrics and registers them.
func NewMetrics(reg *prometheus.Registry) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "lotline", Subsystem: "allocator", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	m := &Metrics{
		commands:      counter("commands_applied_total", "Commands decided and committed to Postgres, dead letters included."),
		events:        counter("events_published_total", "Events published in committed Kafka transactions."),
		deadLetters:   counter("dead_letters_total", "Unreadable commands published to the dead letter topic."),
		keyMismatches: counter("key_mismatches_total", "Commands whose record key is not their SKU: correct, but they may share SKUs across partitions, which is slower."),
		refusals:      counter("refusals_total", "Commits refused because another allocator had changed a SKU first."),
		locked:        counter("locked_commits_total", "Commits made with the SKUs locked: of what had been refused, or was about SKUs that another partition changed lately."),
		transactions:  counter("transactions_committed_total", "Kafka transactions committed."),
		aborts:        counter("transactions_aborted_total", "Kafka transactions aborted or not known to be committed."),
		mended:        counter("transactions_mended_total", "Kafka transactions that the broker had forgotten to end on some partition, ended once more."),
		sessions:      counter("sessions_restarted_total", "Times that a worker left and joined its consumer group again."),
		rebalances:    counter("rebalances_total", "Times that a worker saw its consumer group in a new generation: members came, went or were lost."),
		recovered:     counter("commands_recovered_total", "Commands whose events were taken from the outbox, because an earlier life had decided them."),
		compared:      counter("commands_compared_total", "Commands decided again after a restore of Postgres that became what was published of them before."),
		halts: halts{worker: make(map[int32]string), gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "lotline", Subsystem: "allocator", Name: "partition_halted",
			Help: "1 for a partition that is stopped until a person decides.",
		}, []string{"partition"})},
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "lotline", Subsystem: "allocator", Name: "lag_offsets",
			Help: "Offsets between the end of the committed commands of a partition and what is applied or published of it.",
		}, []string{"partition", "stage"}),
		stepSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "lotline", Subsystem: "allocator", Name: "step_duration_seconds",
			Help:    "Time that a poll took to be applied in Postgres, with all tries, and to be published to Kafka.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16), // 1 ms to 33 s
		}, []string{"step"}),
		pollCommands: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "lotline", Subsystem: "allocator", Name: "poll_commands",
			Help: "Commands of a poll that were published together: all of them, unless some had to wait for other partitions' events.", Buckets: []float64{1, 10, 100, 1000, 2500, 5000, 10000, 20000, 50000, 100000},
		}),
		commandSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "lotline", Subsystem: "allocator", Name: "command_age_seconds",
			Help:    "Age of a command when its events were published: from the broker's append time to the end of the Kafka transaction.",
			Buckets: ageBuckets,
		}),
		orderSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "lotline", Subsystem: "allocator", Name: "order_wait_seconds",
			Help:    "Time that a partition's events waited for other partitions' events of the same SKUs to be published first. Those that need not wait are not in it.",
			Buckets: ageBuckets,
		}),
	}
	reg.MustRegister(m.halts.gauge, m.lag, m.stepSeconds, m.pollCommands, m.commandSeconds, m.orderSeconds)
	for _, step := range []string{stepApply, stepPublish} {
		m.stepSeconds.WithLabelValues(step) // there from the start, so that a rate can be taken
	}
	return m
}

func label(partition int32) string { return strconv.FormatInt(int64(partition), 10) }

// published observes a piece whose events are visible.
func (m *Metrics) published(p *piece) {
	m.events.Add(float64(p.events))
	m.deadLetters.Add(float64(p.deadLetters))
	if p.next == p.poll.next {
		m.keyMismatches.Add(float64(p.poll.keyMismatches))
	}
	now := time.Now()
	for _, r := range p.commands {
		m.commandSeconds.Observe(max(0, now.Sub(r.Timestamp).Seconds()))
	}
}
