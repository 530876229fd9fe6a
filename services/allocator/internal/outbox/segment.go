// Package outbox is the form in which decided events wait to be published: segments of bytes, each covering a
// range of one commands partition.
//
// A segment holds, for each command in its range, the exact records that the decision produced, or the verdict that
// the command is a dead letter. The bytes are decided once and stored with the state they describe, so a recovery
// publishes what an earlier life decided, also when a newer build would encode or judge otherwise.
//
// It may import the standard library only. The use case (apply) writes segments, the store keeps them, and the
// commands log reads them to publish.
package outbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Versions of the byte format, the first byte of each segment. Stored segments outlive a deployment: a reader keeps
// every version it ever wrote.
//
// Version 2 is version 1 with headers before the messages of those entries that have any. A segment without them is
// written as version 1, byte for byte, so that an older build can take over what does not concern it.
const (
	version1 = 1
	version2 = 2
)

// Tags of an entry's headers. A tag is never used again for something else. A reader that does not know one must not
// publish the entry: the event would lack what its command's other events have.
const (
	tagTraceParent = 1
	tagTraceState  = 2
	tagContentType = 3
)

// Segment is the decided outcome of the commands in [First, Next) of one partition. Offsets in the range that the
// segment has no entry for held no command (a transaction's marker, a compacted record).
type Segment struct {
	First, Next int64
	Data        []byte
	DependsOn   map[int32]int64 // what must be published first: by partition, every event of a command below an offset
}

// Entry is what was decided for the command at Offset: its messages in order of seq, or the reason why it is a
// dead letter. Exactly one of the two is set.
type Entry struct {
	Offset     int64
	Time       time.Time // broker's append time of the command, milliseconds
	DeadLetter string
	Headers    Headers
	Messages   []Message
}

// Headers are what all messages of an entry carry besides what every event has, so that events published by a recovery
// are those that an earlier life would have published. An empty one is absent. Decoded, they point into the segment's
// bytes.
type Headers struct {
	TraceParent, TraceState []byte // W3C Trace Context: it came with the command and leaves with its events unchanged
	ContentType             []byte // of the values that an allocator with this setting decided; absent means JSON
}

// Message is one event as it will stand on the topic. Key and Value point into the segment's bytes.
type Message struct {
	Type  uint8 // the wire's event type
	Key   []byte
	Value []byte
}

// Builder appends entries to one segment, and then to another. Each begins with Reset, the first too.
type Builder struct {
	first, next int64
	data        []byte
}

// keptBytesMax bounds the memory that a Builder keeps for its next segment.
const keptBytesMax = 8 << 20

// Reset starts a segment at first, the partition's next offset to apply, in the memory of the last one, unless that was very
// large.
func (b *Builder) Reset(first int64) {
	if cap(b.data) > keptBytesMax {
		b.data = nil
	}
	b.first, b.next, b.data = first, first, append(b.data[:0], version1)
}

// DeadLetter records that the command at offset could not be read, and why, which must not be "".
func (b *Builder) DeadLetter(offset int64, at time.Time, reason string) {
	b.entry(offset, at, 0)
	b.bytes([]byte(reason))
}

// Begin opens the entry of the command at offset, to be followed by exactly count calls of Message (count >= 1).
func (b *Builder) Begin(offset int64, at time.Time, count int, headers Headers) {
	fields := [...]struct {
		tag   uint8
		value []byte
	}{{tagTraceParent, headers.TraceParent}, {tagTraceState, headers.TraceState}, {tagContentType, headers.ContentType}}
	present := 0
	for _, f := range fields {
		if len(f.value) > 0 {
			present++
		}
	}
	if present == 0 {
		b.entry(offset, at, count)
		return
	}
	// A dead letter without a reason, which is none, says that headers follow, and then the number of messages.
	b.data[0] = version2
	b.entry(offset, at, 0)
	b.bytes(nil)
	b.data = binary.AppendUvarint(b.data, uint64(present))
	for _, f := range fields {
		if len(f.value) > 0 {
			b.data = append(b.data, f.tag)
			b.bytes(f.value)
		}
	}
	b.data = binary.AppendUvarint(b.data, uint64(count))
}

// Message appends one event of the open entry.
func (b *Builder) Message(kind uint8, key string, value []byte) {
	b.data = append(b.data, kind)
	b.data = binary.AppendUvarint(b.data, uint64(len(key)))
	b.data = append(b.data, key...)
	b.bytes(value)
}

func (b *Builder) entry(offset int64, at time.Time, count int) {
	b.data = binary.AppendUvarint(b.data, uint64(offset-b.first))
	b.data = binary.AppendVarint(b.data, at.UnixMilli())
	b.data = binary.AppendUvarint(b.data, uint64(count))
	b.next = offset + 1
}

func (b *Builder) bytes(p []byte) {
	b.data = binary.AppendUvarint(b.data, uint64(len(p)))
	b.data = append(b.data, p...)
}

// Size is the number of bytes so far.
func (b *Builder) Size() int { return len(b.data) }

// Segment closes the segment at next, which must be past the last entry. Its bytes are its own. The builder must be Reset
// before it is used again.
func (b *Builder) Segment(next int64) Segment {
	return Segment{First: b.first, Next: max(next, b.next), Data: bytes.Clone(b.data)}
}

// Entries decodes a segment, in order of offset. An error means that the stored bytes are damaged or were written by
// a newer build; nothing may be published from such a segment.
func (s Segment) Entries() ([]Entry, error) {
	r := reader{data: s.Data}
	v := r.byte()
	if r.err == nil && v != version1 && v != version2 {
		return nil, fmt.Errorf("outbox segment %d..%d: format %d is unknown to this build: run the build that wrote it, or a newer one", s.First, s.Next, v)
	}
	// One an offset at the most, if the bytes are not damaged, of several bytes each.
	entries := make([]Entry, 0, max(0, min(s.Next-s.First, int64(len(r.data)/entryBytesMin))))
	for r.err == nil && len(r.data) > 0 {
		e := r.entry(s.First, v == version2)
		if r.err == nil && (e.Offset < s.First || e.Offset >= s.Next) {
			r.err = errDamaged
		}
		entries = append(entries, e)
	}
	if r.err != nil {
		return nil, fmt.Errorf("outbox segment %d..%d: %w", s.First, s.Next, r.err)
	}
	return entries, nil
}

// entryBytesMin are those of an entry: at the least one each for its offset, its time, how many messages, and the length of a reason.
const entryBytesMin = 4

var errDamaged = errors.New("the bytes are damaged")

// reader decodes with a sticky error, so that a damaged segment is reported once, at the end.
type reader struct {
	data []byte
	err  error
}

// entry reads one; headers says whether it may have any.
func (r *reader) entry(first int64, headers bool) Entry {
	e := Entry{Offset: first + int64(r.uvarint()), Time: time.UnixMilli(r.varint()).UTC()}
	count := r.uvarint()
	if count == 0 {
		e.DeadLetter = string(r.bytes())
		if e.DeadLetter != "" {
			return e
		}
		if !headers {
			r.fail(errDamaged)
			return e
		}
		e.Headers = r.headers()
		count = r.uvarint()
	}
	if count == 0 || count > uint64(len(r.data)) {
		r.fail(errDamaged)
		return e
	}
	e.Messages = make([]Message, 0, count)
	for ; count > 0 && r.err == nil; count-- {
		e.Messages = append(e.Messages, Message{Type: r.byte(), Key: r.bytes(), Value: r.bytes()})
	}
	return e
}

func (r *reader) headers() Headers {
	var h Headers
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		tag, value := r.byte(), r.bytes()
		switch tag {
		case tagTraceParent:
			h.TraceParent = value
		case tagTraceState:
			h.TraceState = value
		case tagContentType:
			h.ContentType = value
		default:
			r.fail(fmt.Errorf("an event's header of kind %d is unknown to this build: run the build that wrote it, or a newer one", tag))
		}
	}
	return h
}

// fail keeps the first error.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) byte() uint8 {
	if r.err != nil || len(r.data) == 0 {
		r.fail(errDamaged)
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	return skip(r, v, n)
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.data)
	return skip(r, v, n)
}

func skip[T int64 | uint64](r *reader, v T, n int) T {
	if r.err != nil || n <= 0 {
		r.fail(errDamaged)
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.data)) {
		r.fail(errDamaged)
		return nil
	}
	p := r.data[:n:n]
	r.data = r.data[n:]
	return p
}
