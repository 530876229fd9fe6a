package commandlog

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of all workers of a process.
type Metrics struct {
	commands, events, deadLetters prometheus.Counter
	keyMismatches                 prometheus.Counter
	refusals, locked              prometheus.Counter
	transactions, aborts          prometheus.Counter
	sessions                      prometheus.Counter
	recovered                     prometheus.Counter
	halts                         halts
	warnKeyOnce, warnSharedOnce   sync.Once
}

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
		locked:        counter("locked_commits_total", "Commits of the second try, made with the SKUs locked."),
		transactions:  counter("transactions_committed_total", "Kafka transactions committed."),
		aborts:        counter("transactions_aborted_total", "Kafka transactions aborted or not known to be committed."),
		sessions:      counter("sessions_restarted_total", "Times that a worker left and joined its consumer group again."),
		recovered:     counter("commands_recovered_total", "Commands whose events were taken from the outbox, because an earlier life had decided them."),
		halts: halts{worker: make(map[int32]string), gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "lotline", Subsystem: "allocator", Name: "partition_halted",
			Help: "1 for a partition that is stopped until a person decides.",
		}, []string{"partition"})},
	}
	reg.MustRegister(m.halts.gauge)
	return m
}

func label(partition int32) string { return strconv.FormatInt(int64(partition), 10) }
