package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/kafkaclient"
)

// position is a place in a partition, reached under one assignment of it. The assignment parts a partition from
// itself when it went to another projector and came back: what was read before may be behind what that other
// one committed.
type position struct {
	assignment uint64
	kgo.EpochOffset
}

// ownership knows which partitions this process has, and which of them it has stopped. Safe for concurrent use.
type ownership struct {
	topic   string
	health  *admin.Health
	metrics *Metrics
	log     *slog.Logger

	// committing is held while a commit is under way, and to release partitions: once a partition is released
	// no commit for it is on its way.
	committing sync.Mutex

	mu         sync.Mutex
	last       uint64
	partitions map[int32]*partition
}

type partition struct {
	assignment uint64
	stopped    bool
	// troubled says that the last fetch failed. Only an event ends it: some failures the client reports once, and
	// then reads the partition no more.
	troubled bool
	// refused says that the trouble is a permission, of which Kafka can be asked.
	refused bool
}

func newOwnership(topic string, health *admin.Health, metrics *Metrics, log *slog.Logger) *ownership {
	return &ownership{topic: topic, health: health, metrics: metrics, log: log, partitions: make(map[int32]*partition)}
}

// component names a partition in the readiness report.
func (o *ownership) component(p int32) string { return o.topic + "/" + strconv.Itoa(int(p)) }

// assigned is called by the client before it fetches what is new.
func (o *ownership) assigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range added[o.topic] {
		o.last++
		o.partitions[p] = &partition{assignment: o.last}
		o.metrics.stopped.WithLabelValues(label(p)).Set(0)
	}
	o.metrics.rebalances.WithLabelValues(changeAssigned).Inc()
	o.log.Info("partitions assigned", "topic", o.topic, "added", added[o.topic], "owned", len(o.partitions))
}

// released is called by the client before another process gets the partitions, or after this one lost them.
func (o *ownership) released(_ context.Context, client *kgo.Client, gone map[string][]int32) {
	o.committing.Lock()
	defer o.committing.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range gone[o.topic] {
		delete(o.partitions, p)
		o.health.Set(o.component(p), nil)
		o.metrics.stopped.DeleteLabelValues(label(p))
		o.metrics.lag.DeleteLabelValues(label(p))
	}
	// Whoever has it next finds out for itself whether it can be read.
	client.ResumeFetchPartitions(gone)
	o.metrics.rebalances.WithLabelValues(changeReleased).Inc()
	o.log.Info("partitions released", "topic", o.topic, "released", gone[o.topic], "owned", len(o.partitions))
}

// running returns the present assignment of a partition, or false if it is not owned or was stopped. Records of
// it were fetched, so earlier trouble is over.
func (o *ownership) running(p int32) (assignment uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := o.partitions[p]
	if part == nil || part.stopped {
		return 0, false
	}
	o.calm(p, part)
	return part.assignment, true
}

// calm ends the trouble of a partition, if it has one. The caller holds mu.
func (o *ownership) calm(p int32, part *partition) {
	if !part.troubled {
		return
	}
	part.troubled, part.refused = false, false
	o.health.Set(o.component(p), nil)
	o.log.Info("partition is read again", "topic", o.topic, "partition", p)
}

// refused reports whether any partition could not be read for want of a permission.
func (o *ownership) refused() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, part := range o.partitions {
		if part.refused {
			return true
		}
	}
	return false
}

// permitted ends the trouble of the partitions that were refused.
func (o *ownership) permitted() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for p, part := range o.partitions {
		if part.refused {
			o.calm(p, part)
		}
	}
}

// troubled reports that a partition cannot be read at the moment.
func (o *ownership) troubled(p int32, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := o.partitions[p]
	if part == nil || part.stopped || part.troubled {
		return
	}
	part.troubled, part.refused = true, kafkaclient.Refused(err)
	o.health.Set(o.component(p), fmt.Errorf("cannot be read at the moment: %w", err))
	o.log.Warn("partition cannot be read, trying again", "topic", o.topic, "partition", p, "error", err)
}

// stop marks a partition as stopped and says why; false if there is nothing to stop.
func (o *ownership) stop(p int32, err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := o.partitions[p]
	if part == nil || part.stopped {
		return false
	}
	part.stopped = true
	o.metrics.stopped.WithLabelValues(label(p)).Set(1)
	o.health.Set(o.component(p), fmt.Errorf("stopped: %w", err))
	o.log.Error("partition stopped; nothing after this is projected until it is looked at", "topic", o.topic, "partition", p, "error", err)
	return true
}

// current returns the offsets of next that were read under the present assignment of their partition.
func (o *ownership) current(next map[int32]position) map[int32]kgo.EpochOffset {
	o.mu.Lock()
	defer o.mu.Unlock()
	offsets := make(map[int32]kgo.EpochOffset, len(next))
	for p, at := range next {
		if part := o.partitions[p]; part != nil && part.assignment == at.assignment {
			offsets[p] = at.EpochOffset
		}
	}
	return offsets
}

// has reports whether the partition is owned.
func (o *ownership) has(p int32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.partitions[p] != nil
}

func label(p int32) string { return strconv.Itoa(int(p)) }
