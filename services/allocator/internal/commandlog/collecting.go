package commandlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

const pollBytesMax = 64 << 20 // of decided events of one poll, unless one command has more

// collect finds everything that the polls have to publish. Cuts can make any number of events of a few commands, so
// memory is bounded by polling less: what was decided is in the outbox, and smaller polls publish it in parts.
func (s *session) collect(ctx context.Context, polls []*polled) (*queue, error) {
	finding, cancel := s.grace(ctx)
	defer cancel()
	count := 0
	for _, p := range polls {
		count += len(p.records)
	}
	budget := pollBytesMax
	if count == 1 {
		budget = math.MaxInt // one command's events are never divided
	}
	var out []piece
	for _, p := range polls {
		pieces, bytes, err := s.toPublish(finding, p, budget)
		if errors.Is(err, errTooMuch) {
			s.recordsMax = max(1, count/2)
			return nil, fmt.Errorf("%w: %w", errStale, err)
		}
		if err != nil {
			return nil, err
		}
		budget -= bytes
		out = append(out, pieces...)
	}
	s.recordsMax = min(s.config.PollRecordsMax, 2*max(s.recordsMax, count))
	return newQueue(out), nil
}

// errTooMuch says that a poll's events are too many to be held at once.
var errTooMuch = errors.New("its commands decided very many events, polling fewer at once")

// toPublish finds the pieces that this poll has to publish: for each of its commands that is not published yet, what
// was decided for it, now or by an earlier life. A segment may reach beyond the poll, because an earlier poll had
// other boundaries; only the commands of this poll are taken from it. There is always a last piece that ends with the poll.
func (s *session) toPublish(ctx context.Context, p *polled, bytesMax int) (out []piece, bytes int, err error) {
	s.mu.Lock()
	from := max(p.state.position, p.state.published)
	topicID := p.state.topicID
	s.mu.Unlock()
	first := sort.Search(len(p.records), func(i int) bool { return p.records[i].Offset >= from })
	wanted := p.records[first:]
	if len(wanted) == 0 {
		return []piece{{poll: p, next: p.next}}, 0, nil
	}
	segments, floor := p.decided, int64(0)
	if len(segments) == 0 || wanted[0].Offset < segments[0].First {
		waiting, err := s.store.Outbox(ctx, p.partition, wanted[0].Offset, p.next, bytesMax)
		if err != nil {
			s.forget()
			return nil, 0, fmt.Errorf("%w: %w", errStale, err)
		}
		if waiting.NextOffset < p.next {
			return nil, 0, fmt.Errorf("%w: partition %d is applied to %d and was to %d", errBehind, p.partition, waiting.NextOffset, p.next)
		}
		if waiting.TooMuch {
			return nil, 0, errTooMuch
		}
		for _, r := range wanted {
			if len(segments) == 0 || r.Offset < segments[0].First {
				s.metrics.recovered.Inc()
				p.traced.note(r.Offset, "recovered from the outbox")
			}
		}
		segments, floor = waiting.Segments, waiting.OutboxFloor
	}
	for _, segment := range segments {
		bytes += len(segment.Data)
	}
	if bytes > bytesMax {
		return nil, 0, errTooMuch
	}
	out, err = s.match(p, topicID, wanted, segments, floor)
	if errors.Is(err, errStale) {
		return nil, 0, err
	}
	if err != nil {
		s.stop(p.partition, err)
		return nil, 0, fmt.Errorf("%w: %w", errStale, err)
	}
	return out, bytes, nil
}

// match walks the wanted commands and the segments, both in order of offset.
func (s *session) match(p *polled, topicID string, wanted []*kgo.Record, segments []outbox.Segment, floor int64) ([]piece, error) {
	var out []piece
	// What is behind the last segment has none, and gets an empty one: it is published, or its loss is noticed.
	for _, segment := range append(segments[:len(segments):len(segments)], outbox.Segment{First: p.next, Next: p.next}) {
		n := sort.Search(len(wanted), func(i int) bool { return wanted[i].Offset >= segment.Next })
		if n == 0 {
			continue
		}
		part, err := s.matchSegment(p, topicID, wanted[:n], segment, floor)
		if err != nil {
			return nil, err
		}
		wanted = wanted[n:]
		out = append(out, part)
	}
	return out, nil
}

// matchSegment is what one segment has for the wanted commands, which are below its end. A command that is neither in
// the segment nor below the floor has lost its events: that is said by name, never passed over.
func (s *session) matchSegment(p *polled, topicID string, wanted []*kgo.Record, segment outbox.Segment, floor int64) (piece, error) {
	out := piece{poll: p, next: min(segment.Next, p.next), dependsOn: segment.DependsOn, commands: wanted, records: make([]*kgo.Record, 0, len(wanted))}
	var entries []outbox.Entry
	if len(segment.Data) > 0 {
		var err error
		if entries, err = segment.Entries(); err != nil {
			return out, err
		}
	}
	for _, r := range wanted {
		for len(entries) > 0 && entries[0].Offset < r.Offset {
			entries = entries[1:]
		}
		switch {
		case len(entries) > 0 && entries[0].Offset == r.Offset && entries[0].DeadLetter != "" && !p.heavy(r):
			// Another allocator, of a build that cannot read it, has decided it since this one looked how far it was applied.
			return out, fmt.Errorf("%w: the command at offset %d was judged a dead letter meanwhile", errStale, r.Offset)
		case len(entries) > 0 && entries[0].Offset == r.Offset && entries[0].DeadLetter != "":
			out.records = append(out.records, deadLetter(s.config.Topics.DeadLetters.Name, r, entries[0].DeadLetter))
			out.deadLetters++
		case len(entries) > 0 && entries[0].Offset == r.Offset:
			out.records = append(out.records, EventRecords(s.config.Topics.Events.Name, topicID, p.partition, entries[0])...)
			out.events += len(entries[0].Messages)
		case r.Offset < floor:
			// Published and deleted by an earlier life.
		default:
			return out, fmt.Errorf("the command at offset %d is applied, and its events are neither in the outbox nor published", r.Offset)
		}
	}
	return out, nil
}
