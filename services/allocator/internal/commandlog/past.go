package commandlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator/internal/outbox"
)

// pastMax is how many commands' published events are remembered at once: 24 bytes each.
const pastMax = 1 << 20

// Past is what was published of a run of a partition's commands, for holding against it what is decided for them again
// after Postgres was restored from a backup.
//
// Over one partition the same commands decide the same again. Over two, a SKU's commands may come in another order this
// time, and the same line be allocated to another batch than consumers were told. Nothing would ever tell: each command is
// applied, and nothing is published for it.
type Past struct {
	from     int64
	commands []visible // by offset, from there on
}

// visible is what is visible of a command's events: their sum, so that it does not matter in which order they are read, and
// how many there are and have to be.
//
// Of an outcome that changed nothing only that is known. The version and the reason that it names are of the moment in which
// it was decided, which between commands of another partition can be another one; nothing else follows from them.
type visible struct {
	sum       uint64
	seen, all int32
	changes   bool // the SKU: what changes nothing has no part in the sum
}

var pastSeed = maphash.MakeSeed()

// note adds an event.
func (v *visible) note(key string, e schemas.Event) {
	if e.Last {
		v.all = e.Seq + 1
	}
	v.seen++
	if !e.Type.ChangesState() {
		return
	}
	v.changes = true
	v.sum += maphash.Comparable(pastSeed, struct {
		key string
		schemas.Event
	}{key, e})
}

// ReadPast reads what is visible of a partition's commands at offsets [from, next); the first of them was appended at since.
// Of more than can be remembered it reads the first ones.
func ReadPast(ctx context.Context, log EventLog, topicID string, partition int32, from, next int64, since time.Time) (*Past, error) {
	p := newPast(from, next)
	left := len(p.commands)
	err := log.Of(ctx, topicID, partition, from, from+int64(left), since, func(offset int64, r *kgo.Record) bool {
		if p.see(offset, r) {
			left--
		}
		return left > 0
	})
	if err != nil {
		return nil, fmt.Errorf("read what was published, to compare it with what is decided again: %w", err)
	}
	return p, nil
}

func newPast(from, next int64) *Past {
	return &Past{from: from, commands: make([]visible, min(next-from, pastMax))}
}

// see adds an event of a command, and says whether it is the one that was missing. Where the group's offsets were gone once, what was
// published has appeared again: what comes after all of a command's events is a copy.
func (p *Past) see(offset int64, r *kgo.Record) (last bool) {
	v := &p.commands[offset-p.from]
	if v.whole() {
		return false
	}
	v.note(string(r.Key), eventOf(r))
	return v.whole()
}

// eventOf is the event in a record. One that cannot be read is none that is ever decided.
func eventOf(r *kgo.Record) schemas.Event {
	_, e, err := cloudevents.Decode(r.Headers, r.Value, schemas.DecodeEvent)
	if err != nil {
		return schemas.Event{}
	}
	return e
}

// whole says that all events of the command are there. Of those that are not, retention has deleted some, or they never had
// any: a dead letter.
func (v *visible) whole() bool { return v.seen > 0 && v.seen == v.all }

// differs says whether now is something else; both are whole.
func (v visible) differs(now visible) bool {
	return v.changes != now.changes || v.changes && v != now
}

// covers says whether the command at an offset is among those that were read.
func (p *Past) covers(offset int64) bool {
	return p != nil && offset >= p.from && offset < p.from+int64(len(p.commands))
}

// compared counts the commands at offsets [from, next) that were held against something.
func (p *Past) compared(from, next int64) (n int) {
	for offset := from; offset < next && p.covers(offset); offset++ {
		if p.commands[offset-p.from].whole() {
			n++
		}
	}
	return n
}

// Differs finds the first command of which something else was published than is in segments. It implements apply.Check.
func (p *Past) Differs(segments []outbox.Segment) (offset int64, differs bool, err error) {
	for _, s := range segments {
		entries, err := s.Entries()
		if err != nil {
			return 0, false, err
		}
		for _, e := range entries {
			if !p.covers(e.Offset) {
				continue
			}
			if was := p.commands[e.Offset-p.from]; was.whole() && was.differs(decidedNow(e)) {
				return e.Offset, true, nil
			}
		}
	}
	return 0, false, nil
}

// decidedNow is what would be visible of an entry, once published.
func decidedNow(e outbox.Entry) (v visible) {
	contentType := cmp.Or(string(e.Headers.ContentType), schemas.ContentTypeJSON)
	for _, m := range e.Messages {
		event, err := schemas.DecodeEvent(schemas.EventType(m.Type).CEType(), contentType, m.Value)
		if err != nil {
			event = schemas.Event{}
		}
		v.note(string(m.Key), event)
	}
	return v
}

// past is what a poll's commands from the applied offset on have to be held against; nil unless some were published before, as
// after a restore. since is when the first of them was appended.
func (s *session) past(ctx context.Context, p *polled, applied int64, since time.Time) (*Past, error) {
	s.mu.Lock()
	past, published, topicID := p.state.past, p.state.published, p.state.topicID
	s.mu.Unlock()
	switch next := min(p.next, published); {
	case applied >= next:
		past = nil
	case past.covers(applied) && past.covers(next-1):
		return past, nil
	default:
		s.log.Info("reading what was published of commands that are decided again, to compare", "partition", p.partition, "offset", applied, "published", published)
		var err error
		log := EventLog{Topic: s.config.Topics.Events.Name, Admin: s.admin, Opts: s.config.Client}
		if past, err = ReadPast(ctx, log, topicID, p.partition, applied, published, since); err != nil {
			return nil, fmt.Errorf("%w: %w", errPast, err)
		}
	}
	s.mu.Lock()
	p.state.past = past
	s.mu.Unlock()
	return past, nil
}

// passed forgets the past of a partition that is applied beyond it.
func (s *session) passed(state *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state.past = nil
}

// errPast tells a Kafka that does not say what was published from a Postgres that is away.
var errPast = errors.New("commands are to be decided again after a restore of Postgres")

const pastComponent = "past" // of readiness

// agreed learns how far a partition came before the command that is decided otherwise. What that one lacks may be decided by
// another partition meanwhile, so it is tried again from where the client is, which is before that.
func (s *session) agreed(ctx context.Context, p *polled, past *Past, applied int64) {
	s.mu.Lock()
	topicID := p.state.topicID
	s.mu.Unlock()
	reached, err := s.store.NextOffset(ctx, topicID, p.partition)
	if err != nil { // then the halt will be taken for mended, and the session starts anew
		return
	}
	s.metrics.compared.Add(float64(past.compared(applied, reached)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if reached > p.state.reached {
		p.state.reached, p.state.retryPause = reached, 0
	}
}
