package commandlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

const (
	haltCheckInterval = time.Second      // how often a session looks whether a halt is over
	haltRetryMin      = time.Second      // before what may pass by itself is tried again
	haltRetryMax      = 60 * time.Second // the pauses double up to this
)

// errMended says that a halted partition stands elsewhere now: a person moved it, or another allocator went on.
var errMended = errors.New("a halted partition was moved on")

// errOldTopic says that a client goes by the id of a topic that is gone, and will never read the one that was created in its place.
//
// Two allocators; the topic is deleted and created anew, so both halt what they have. A person adopts it, partition by partition. B finds
// that its own were moved on, joins anew, and the group gives A what B had: not halted, and adopted already, so nobody will
// move it on. But A's client is that of before.
var errOldTopic = errors.New("the client knows the commands topic by the id of one that is gone")

// halts says which partitions are stopped, for all workers of a process: a partition may go from one to another, and
// only who has it now may say that it is stopped.
type halts struct {
	gauge  *prometheus.GaugeVec
	mu     sync.Mutex
	worker map[int32]string
}

func (h *halts) set(health *admin.Health, worker string, partition int32, reason error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.worker[partition] = worker
	h.gauge.WithLabelValues(label(partition)).Set(1)
	health.Set(partitionComponent(partition), reason)
}

// clear forgets a halt. The worker that has the partition clears what another one said before; taking says that it
// has it.
func (h *halts) clear(health *admin.Health, worker string, partition int32, taking bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !taking && h.worker[partition] != worker {
		return
	}
	delete(h.worker, partition)
	h.gauge.WithLabelValues(label(partition)).Set(0)
	health.Set(partitionComponent(partition), nil)
}

func partitionComponent(partition int32) string {
	return fmt.Sprintf("commands partition %d", partition)
}

// halt marks a partition as stopped by name: nothing of it is published, and nothing is skipped. The other partitions
// go on. With retry the same is tried again after pauses that grow: the cause may be mended where it is. The caller
// holds mu.
func (s *session) halt(partition int32, reason error, retry bool) {
	if state := s.parts[partition]; state != nil && state.halted {
		return
	}
	reason = fmt.Errorf("partition %d of %s is halted: %w", partition, s.config.Topics.Commands.Name, reason)
	s.log.Error("partition halted, nothing of it is skipped; it goes on by itself once the cause is mended", "partition", partition, "error", reason)
	s.metrics.halts.set(s.health, s.name, partition, reason)
	state := s.parts[partition]
	if state == nil {
		state = &part{}
		s.parts[partition] = state
	}
	state.halted, state.suspect = true, true
	state.retryPause = min(max(2*state.retryPause, haltRetryMin), haltRetryMax)
	state.retryAt = time.Time{}
	if retry {
		state.retryAt = time.Now().Add(state.retryPause)
	}
}

// unhalt forgets the halt of a partition that this session has. The caller holds mu.
func (s *session) unhalt(partition int32) {
	s.metrics.halts.clear(s.health, s.name, partition, true)
}

// releaseHalts forgets what this session halted: whoever has the partitions next finds out for itself.
func (s *session) releaseHalts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, state := range s.parts {
		if state.suspect {
			s.metrics.halts.clear(s.health, s.name, p, false)
		}
	}
}

// checkHalts looks whether halted partitions are another's now, stand elsewhere (errMended: only a new session starts
// from there), or are due to be tried again, which may take a new client (errOldTopic). One that is being tried again is looked after like the others: it may bring
// nothing, and then that it was moved is all that ends its halt.
func (s *session) checkHalts(ctx context.Context) error {
	if time.Since(s.haltsChecked) < haltCheckInterval {
		return nil
	}
	s.haltsChecked = time.Now()
	suspects := s.suspects()
	if len(suspects) == 0 {
		return nil
	}
	assigned := s.assigned()
	asking, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	topic := s.config.Topics.Commands.Name
	topicID, positions, err := s.stand(asking, suspects)
	if err != nil {
		s.log.Warn("looking whether halted partitions may go on", "error", err)
		return nil
	}
	committed, err := Committed(asking, s.admin, s.config.Group, assigned...)
	if err != nil {
		s.log.Warn("looking whether halted partitions may go on", "error", err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range suspects {
		state, at := s.parts[p], positions[p]
		if !state.suspect {
			continue // assigned anew since it was asked after
		}
		known := int64(unknown)
		if c, ok := committed.Lookup(topic, p); ok {
			known = c.At
		}
		if !state.omitted && !slices.Contains(assigned, p) {
			s.metrics.halts.clear(s.health, s.name, p, false)
			delete(s.parts, p)
			continue
		}
		if err := state.reconsider(p, topicID, known, at); err != nil {
			return err
		}
	}
	return nil
}

// reconsider lets a halted partition be tried again if it is time for that, or says why it takes a new session. topicID is the
// topic's now, committed the group's offset, and at what Postgres says.
func (state *part) reconsider(partition int32, topicID string, committed int64, at postgres.Position) error {
	switch position, _ := Start(committed, at); {
	case at.TopicID != topicID:
	case at.TopicID != state.topicID || position != state.position && position != state.reached:
		return fmt.Errorf("%w: partition %d to %d", errMended, partition, position)
	case !state.halted || state.retryAt.IsZero() || time.Now().Before(state.retryAt):
	case state.oldTopic:
		return fmt.Errorf("%w: partition %d", errOldTopic, partition)
	default:
		state.again()
	}
	return nil
}

// suspects are the partitions that this session has stopped and of which nothing was committed since, sorted.
func (s *session) suspects() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var partitions []int32
	for p, state := range s.parts {
		if state.suspect {
			partitions = append(partitions, p)
		}
	}
	slices.Sort(partitions)
	return partitions
}

// stand asks for the id of the commands topic, and where Postgres says that partitions stand.
func (s *session) stand(ctx context.Context, partitions []int32) (topicID string, positions map[int32]postgres.Position, err error) {
	topicID, _, err = s.commandsTopic(ctx)
	if err != nil {
		return "", nil, err
	}
	positions, err = s.store.Positions(ctx, topicID, partitions)
	s.setHealth("postgres", err)
	return topicID, positions, err
}

// commandsTopic asks for the id of the commands topic, and which partitions it has.
func (s *session) commandsTopic(ctx context.Context) (id string, partitions kadm.PartitionDetails, err error) {
	topic := s.config.Topics.Commands.Name
	found, err := s.admin.ListTopics(ctx, topic)
	if err != nil {
		return "", nil, fmt.Errorf("ask for the id of topic %s: %w", topic, err)
	}
	detail := found[topic]
	if detail.Err == nil && detail.ID == (kadm.TopicID{}) {
		detail.Err = errors.New("the broker does not say")
	}
	if detail.Err != nil { // never a made-up id: it would be stored, and the true one taken for another topic's
		return "", nil, fmt.Errorf("ask for the id of topic %s: %w", topic, detail.Err)
	}
	return TopicName(detail.ID), detail.Partitions, nil
}

// Start is where a partition begins, and up to where it is published; committed is -1 if the group has no offset. Below
// the outbox floor everything was published and applied, so a group offset below it, as after a skip, is no place to
// begin at.
func Start(committed int64, at postgres.Position) (position, published int64) {
	published = max(committed, at.OutboxFloor)
	return min(published, at.NextOffset), published
}
