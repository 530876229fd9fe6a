package commandlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
)

const (
	failedPauseMin    = 50 * time.Millisecond // after a poll that could not read commands
	failedPauseMax    = 2 * time.Second
	failedLogInterval = 10 * time.Second // how often that is repeated in the log
)

// fetchErrors halts partitions whose log is not what it was. Everything else is an outage that the client waits out, also what it
// says of a whole topic, as of partition -1: that a broker's answer lacks a partition, say, which says nothing of any log.
func (s *session) fetchErrors(ctx context.Context, fetches kgo.Fetches) {
	var outage error
	var group *kgo.ErrGroupSession
	fetches.EachPartition(func(t kgo.FetchTopicPartition) {
		topic, partition, err := t.Topic, t.Partition, t.Err
		switch {
		case err == nil:
		case len(t.Records) > 0:
			// Of what came before the fault; it comes again with nothing before it.
		case errors.As(err, &group):
			_, s.lostGeneration = s.kafka.GroupMetadata()
			err = fmt.Errorf("joining the consumer group in Kafka again: %w", kafkaclient.Explain(err))
			s.health.Set(s.name, err)
			s.log.Warn("out of the consumer group", "error", err)
		case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
			// No records within the poll's wait.
		case partition >= 0 && topic == s.config.Topics.Commands.Name && Unreadable(err):
			s.mu.Lock()
			s.halt(partition, fmt.Errorf("its log cannot be read on from offset %d, where it was left: %w", s.positionOf(partition), err), passing(err))
			s.parts[partition].oldTopic = errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.InconsistentTopicID)
			s.mu.Unlock()
			s.pause(partition)
		default:
			outage = err
		}
	})
	s.setHealth("kafka", outage)
	if outage == nil {
		s.failed = 0
		return
	}
	if s.failed == 0 || time.Since(s.logged) >= failedLogInterval {
		s.logged = time.Now()
		s.log.Warn("reading commands", "error", kafkaclient.Explain(outage))
	}
	pause := min(failedPauseMin<<min(s.failed, 10), failedPauseMax)
	s.failed++
	if fetches.NumRecords() > 0 {
		return // other partitions are well
	}
	// What the client does not try again by itself, such as a permission that is missing, it hands on at once, each time.
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// Unreadable tells errors after which a partition's log is not what it was, or which reading it again will only repeat,
// from those that pass. What the client says of a partition is a Kafka error, a failure of the network, or that a batch
// cannot be decompressed or parsed; the last has no type of its own.
func Unreadable(err error) bool {
	var lost *kgo.ErrDataLoss
	var code *kerr.Error
	var network net.Error
	switch {
	case errors.As(err, &lost):
		return true
	case kafkaclient.Refused(err): // nor does a password that is not there say anything about the log
		return false
	case errors.As(err, &code):
		return errors.Is(err, kerr.OffsetOutOfRange) || errors.Is(err, kerr.CorruptMessage) ||
			errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.InconsistentTopicID)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, kgo.ErrClientClosed):
		return false
	}
	return true
}

// passing tells those of Unreadable that may be over without anybody's doing. Where the log is out of range it must
// not be tried again: once it has grown, other records have the same offsets.
func passing(err error) bool {
	var lost *kgo.ErrDataLoss
	return !errors.As(err, &lost) && !errors.Is(err, kerr.OffsetOutOfRange)
}
