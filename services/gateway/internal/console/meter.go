package console

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	latenciesMax = 4096 // that a sample's quantiles are made of; the rest of a busy second is like them
	recentMax    = 12   // events that a sample shows

	// A mark of a partition remembers when its events were appended, those within markEvery of its first.
	markEvery = 100 * time.Millisecond
	marksMax  = 3000
)

// meter counts the events that the gateway sees, while somebody looks at the console.
type meter struct {
	watched atomic.Int32

	mu        sync.Mutex
	events    int
	latencies []time.Duration
	recent    []Recent
	marks     map[int32][]mark // by partition, in the order of their offsets
	travels   map[string]*travel
	travelled []string // their command ids, oldest first
}

// mark says about when the events up to an offset were appended, which come after the last mark's.
type mark struct {
	last int64
	at   time.Time
}

// Recent is an event that was just seen.
type Recent struct {
	Type      string `json:"type"`
	SKU       string `json:"sku"`
	OrderID   string `json:"orderid,omitempty"`
	BatchRef  string `json:"batchref,omitempty"`
	Qty       int32  `json:"qty,omitempty"`
	CommandID string `json:"commandid"`
	Reason    string `json:"reason,omitempty"`
	Time      int64  `json:"time"` // of its append, Unix ms
}

func newMeter() *meter { return &meter{marks: map[int32][]mark{}, travels: map[string]*travel{}} }

// Listening reports whether somebody looks.
func (m *meter) Listening() bool { return m.watched.Load() > 0 }

// Event counts an event. How long its command took is the difference of two times by the broker's clock: that at which
// the command was appended, and that at which the event was.
func (m *meter) Event(record *kgo.Record, envelope *cloudevents.Envelope, event *schemas.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events++
	if event.CommandSource == submit.Source {
		m.travel(event.CommandID).decided(record, envelope, event)
	}
	if !envelope.Time.IsZero() && len(m.latencies) < latenciesMax {
		m.latencies = append(m.latencies, max(0, record.Timestamp.Sub(envelope.Time)))
	}
	if len(m.recent) == recentMax {
		m.recent = slices.Delete(m.recent, 0, 1)
	}
	qty := event.Qty
	if qty == 0 {
		qty = event.BatchQty
	}
	m.recent = append(m.recent, Recent{
		Type: event.Type.String(), SKU: event.SKU, OrderID: event.OrderID, BatchRef: event.BatchRef, Qty: qty,
		CommandID: event.CommandID, Reason: event.Reason, Time: record.Timestamp.UnixMilli(),
	})
	marks := m.marks[record.Partition]
	if n := len(marks); n > 0 && record.Timestamp.Sub(marks[n-1].at) < markEvery {
		marks[n-1].last = record.Offset
		return
	}
	if len(marks) == marksMax {
		marks = slices.Delete(marks, 0, marksMax/10)
	}
	m.marks[record.Partition] = append(marks, mark{record.Offset, record.Timestamp})
}

// Latency is how long commands took to be decided, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	Max float64 `json:"max"`
}

// take returns what was counted since it was last called; latency is nil if nothing was.
func (m *meter) take() (events int, latency *Latency, recent []Recent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	events, recent = m.events, m.recent
	if n := len(m.latencies); n > 0 {
		slices.Sort(m.latencies)
		latency = &Latency{P50: ms(m.latencies[n/2]), P95: ms(m.latencies[n*95/100]), Max: ms(m.latencies[n-1])}
	}
	m.events, m.latencies, m.recent = 0, m.latencies[:0], nil
	return events, latency, recent
}

// forget drops what was counted: nobody looked, and what comes next is not its continuation.
func (m *meter) forget() {
	m.take()
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.marks)
}

// appended returns about when the first event at or after an offset was appended, if it was seen. Marks before it are
// dropped: what is projected stays projected.
func (m *meter) appended(partition int32, offset int64) (at time.Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	marks := m.marks[partition]
	first, _ := slices.BinarySearchFunc(marks, offset, func(m mark, offset int64) int { return cmp.Compare(m.last, offset) })
	if first == len(marks) {
		return at, false
	}
	marks = slices.Delete(marks, 0, first)
	m.marks[partition] = marks
	return marks[0].at, true
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
