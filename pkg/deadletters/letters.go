// Package deadletters reads and answers the dead letters: commands that could
// not be read. A dead letter is open until a mark says that it was replayed or
// discarded; marks are records of the same topic, so what became of a dead
// letter is kept as long as the dead letter.
//
// The operator's `lotline dlq` and the gateway's console call it. It reads without
// a consumer group and only what is committed. It may import pkg and the Kafka
// client, and does not know what commands say: whether one can be read is its callers' to find out.
package deadletters

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Headers that the allocator adds to a dead letter, after those of the command.
const (
	headerReason    = "dlq_reason"
	headerTopic     = "dlq_topic"
	headerPartition = "dlq_partition"
	headerOffset    = "dlq_offset"
	headerTimestamp = "dlq_timestamp"
)

// Headers of a mark.
const (
	headerMark    = "dlq_mark"
	headerMarkOf  = "dlq_mark_of" // the dead letter's place
	headerMarkBy  = "dlq_mark_by"
	headerMarkWhy = "dlq_mark_why"
)

// Headers that a replayed command has beside its own. They are replaced, never
// added up: from leads to the dead letter, and the one in that to the one before.
const (
	headerReplayedFrom = "lotline_replayed_from" // the dead letter it was last: topic/partition@offset
	headerOrigin       = "lotline_origin"        // where it first was: topic/partition@offset
)

// Place is where a record stands in the topic of dead letters.
type Place struct {
	Partition int32
	Offset    int64
}

func (p Place) String() string { return fmt.Sprintf("%d@%d", p.Partition, p.Offset) }

// MarshalText is how a place is written in JSON.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what String writes, or an offset alone: of partition 0,
// the only one that the topic is declared with.
func (p *Place) UnmarshalText(text []byte) error {
	partition, offset, found := strings.Cut(string(text), "@")
	if !found {
		partition, offset = "0", partition
	}
	n, err := strconv.ParseInt(partition, 10, 32)
	m, err2 := strconv.ParseInt(offset, 10, 64)
	if err != nil || err2 != nil || n < 0 || m < 0 {
		return fmt.Errorf("%q is not the place of a dead letter: give an offset such as 17, or partition and offset such as 0@17", text)
	}
	*p = Place{int32(n), m}
	return nil
}

// Status is what became of a dead letter.
type Status string

// The states of a dead letter.
const (
	Open      Status = "open"
	Replayed  Status = "replayed"
	Discarded Status = "discarded"
)

// Letter is a dead letter.
type Letter struct {
	Place  Place
	Status Status
	Time   time.Time // when it became one
	Reason string

	Topic     string // of the command, and its place there
	Partition int32
	Offset    int64
	Received  string // when the broker got the command

	Key, Value []byte
	Headers    []kgo.RecordHeader // the command's own, as they came
}

// Origin is where the command was, in the form of Kafka's own tools less the
// topic: partition@offset.
func (l *Letter) Origin() Place { return Place{l.Partition, l.Offset} }

// headerBytes is what a header takes in memory beside its key and value.
const headerBytes = 40

// size is the memory that a command takes. All of it counts: one with nothing
// in its value may have 15 MiB of headers, which on the way were compressed.
func size(key, value []byte, headers []kgo.RecordHeader) int {
	n := len(key) + len(value)
	for _, h := range headers {
		n += len(h.Key) + len(h.Value) + headerBytes
	}
	return n
}

// parse reads a dead letter. Nothing else may be on the topic but marks; what
// is neither has an error.
func parse(r *kgo.Record) (Letter, error) {
	l := Letter{Place: Place{r.Partition, r.Offset}, Time: r.Timestamp.UTC(), Key: r.Key, Value: r.Value, Headers: slices.Clone(r.Headers)}
	var partition, offset string
	for _, field := range []struct {
		name string
		to   *string
	}{
		{headerTimestamp, &l.Received},
		{headerOffset, &offset},
		{headerPartition, &partition},
		{headerTopic, &l.Topic},
		{headerReason, &l.Reason},
	} {
		// The last of a name is the allocator's; one before it came with the command.
		at := len(l.Headers) - 1
		for at >= 0 && l.Headers[at].Key != field.name {
			at--
		}
		if at < 0 {
			return l, fmt.Errorf("the record at %s is no dead letter: it has no header %s", l.Place, field.name)
		}
		*field.to = string(l.Headers[at].Value)
		l.Headers = slices.Delete(l.Headers, at, at+1)
	}
	p, err := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return l, fmt.Errorf("the record at %s is no dead letter: %w", l.Place, err)
	}
	l.Partition, l.Offset = int32(p), o
	return l, nil
}

// Mark is what a person decided about a dead letter.
type Mark struct {
	Place   Place // of the mark itself
	Of      Place
	Status  Status
	By, Why string
	Time    time.Time
}

// parseMark reads a mark; ok is false if r is none.
func parseMark(r *kgo.Record) (m Mark, ok bool) {
	m.Place, m.Time = Place{r.Partition, r.Offset}, r.Timestamp.UTC()
	of := ""
	for _, h := range r.Headers {
		switch h.Key {
		case headerReason: // a dead letter whose command came with the headers of a mark
			return m, false
		case headerMark:
			m.Status = Status(h.Value)
		case headerMarkOf:
			of = string(h.Value)
		case headerMarkBy:
			m.By = string(h.Value)
		case headerMarkWhy:
			m.Why = string(h.Value)
		}
	}
	ok = (m.Status == Replayed || m.Status == Discarded) && m.Of.UnmarshalText([]byte(of)) == nil
	return m, ok
}

func (m Mark) record(topic string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: m.Of.Partition, Headers: []kgo.RecordHeader{
		{Key: headerMark, Value: []byte(m.Status)},
		{Key: headerMarkOf, Value: []byte(m.Of.String())},
		{Key: headerMarkBy, Value: []byte(m.By)},
		{Key: headerMarkWhy, Value: []byte(m.Why)},
	}}
}

// replayed is the command as it came, with where it comes from now.
func (l *Letter) replayed(deadLetters string) *kgo.Record {
	origin := []byte(fmt.Sprintf("%s/%s", l.Topic, l.Origin()))
	headers := make([]kgo.RecordHeader, 0, len(l.Headers)+2)
	for _, h := range l.Headers {
		switch h.Key {
		case headerReplayedFrom:
		case headerOrigin:
			origin = h.Value
		default:
			headers = append(headers, h)
		}
	}
	return &kgo.Record{Topic: l.Topic, Partition: l.Partition, Key: l.Key, Value: l.Value, Headers: append(headers,
		kgo.RecordHeader{Key: headerReplayedFrom, Value: []byte(fmt.Sprintf("%s/%s", deadLetters, l.Place))},
		kgo.RecordHeader{Key: headerOrigin, Value: origin})}
}

// Filter chooses dead letters. The zero value chooses all that are open.
type Filter struct {
	Places          []Place // none: all
	Reason          string  // part of the reason, in any case
	Key             *string
	Since           time.Time
	OriginPartition *int32
	OriginOffset    *int64
	All             bool // those that were replayed or discarded too
}

// choosesAll reports whether it chooses by nothing but All.
func (f *Filter) choosesAll() bool {
	return len(f.Places) == 0 && f.Reason == "" && f.Key == nil && f.Since.IsZero() && f.OriginPartition == nil && f.OriginOffset == nil
}

func (f *Filter) matches(l *Letter) bool {
	switch {
	case !f.All && l.Status != Open:
	case len(f.Places) > 0 && !slices.Contains(f.Places, l.Place):
	case f.Reason != "" && !strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason)):
	case f.Key != nil && *f.Key != string(l.Key):
	case l.Time.Before(f.Since):
	case f.OriginPartition != nil && *f.OriginPartition != l.Partition:
	case f.OriginOffset != nil && *f.OriginOffset != l.Offset:
	default:
		return true
	}
	return false
}
