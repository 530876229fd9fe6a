package console

import (
	"errors"
	"net/http"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	travelsMax      = 2048 // commands whose way is remembered
	travelEventsMax = 50   // events of one that are shown; a cut may have a hundred thousand

	// When a row came is known to those who asked shortly before and had none, as a page does that follows a command; or who ask at
	// once. Whoever looks at a command of an hour ago has not seen it.
	lackedMax, decidedMax = 5 * time.Second, time.Second
)

// place is where a record stands.
type place struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
	Time      int64 `json:"time"` // of its append, by the broker's clock, Unix ms; 0: not known
}

// travel is a command's way through the pipeline as this gateway saw it.
type travel struct {
	sent    *place
	events  []place
	changes []change
	count   int   // of its events so far
	last    bool  // all of them are there
	took    int64 // from its append to its last event's, ms; both by the broker's clock

	// When the last event was seen here, when the row was looked for in vain, and when it was seen.
	decidedAt, lackedAt, visibleAt time.Time
}

// travel returns a command's, a new one in the place of the oldest if there is none. The caller holds mu.
func (m *meter) travel(id string) *travel {
	if known, ok := m.travels[id]; ok {
		return known
	}
	if len(m.travelled) == travelsMax {
		delete(m.travels, m.travelled[0])
		m.travelled = m.travelled[1:]
	}
	fresh := new(travel)
	m.travels[id] = fresh
	m.travelled = append(m.travelled, id)
	return fresh
}

func (t *travel) decided(record *kgo.Record, envelope *cloudevents.Envelope, e *schemas.Event) {
	t.count++
	if len(t.events) < travelEventsMax {
		t.events = append(t.events, place{record.Partition, record.Offset, record.Timestamp.UnixMilli()})
		t.changes = append(t.changes, change{
			Type: e.Type.String(), SKU: e.SKU, Version: e.Version, CommandID: e.CommandID, CommandSource: e.CommandSource, OrderID: e.OrderID,
			Qty: e.Qty, BatchRef: e.BatchRef, BatchQty: e.BatchQty, BatchAvailable: e.BatchAvailable, ETA: e.ETA, Available: e.Available,
			Reason: e.Reason, Message: e.Message, EventTime: envelope.Time,
		})
	}
	if e.Last {
		t.last, t.decidedAt = true, time.Now()
		t.took = max(0, record.Timestamp.Sub(envelope.Time).Milliseconds())
	}
}

// Acknowledged remembers where a command of this gateway is in the log, while somebody looks. It may be called concurrently.
func (c *Console) Acknowledged(id string, record *kgo.Record) {
	if !c.meter.Listening() {
		return
	}
	c.meter.mu.Lock()
	defer c.meter.mu.Unlock()
	c.meter.travel(id).sent = &place{Partition: record.Partition, Offset: record.Offset}
}

// outcome is a readmodel.Outcome as an answer.
type outcome struct {
	CommandID     string    `json:"commandid"`
	CommandSource string    `json:"commandsource"`
	Type          string    `json:"type"`
	SKU           string    `json:"sku"`
	Version       uint64    `json:"version"`
	OrderID       string    `json:"orderid"`
	BatchRef      string    `json:"batchref"`
	Reason        string    `json:"reason"`
	Message       string    `json:"message"`
	EventTime     time.Time `json:"event_time"`
}

// journey is how far a command has come.
type journey struct {
	Sent    *place   `json:"sent"`    // in the commands topic; null: not sent by this gateway, or a while ago
	Decided *decided `json:"decided"` // in the events topic; null: not yet, or not seen here
	Visible *int64   `json:"visible"` // ms from when its last event was seen to when its row was; null: nobody looked then
	Outcome *outcome `json:"outcome"` // in the read model; null: not yet
	Kept    bool     `json:"kept"`    // whether the read model keeps outcomes at all
}

type decided struct {
	Took    int64    `json:"took"` // ms from the command's append to its last event's
	Count   int      `json:"count"`
	Last    bool     `json:"last"`
	Events  []place  `json:"events"`
	Changes []change `json:"changes"`
}

// command answers GET /console/command?id=…: how far it has come. The page asks again until the command has arrived.
func (c *Console) command(r *http.Request) (any, error) {
	id, err := checked(r.URL.Query().Get("id"))
	if err != nil {
		return nil, err
	}
	ctx, release, err := c.slot(r)
	if err != nil {
		return nil, err
	}
	defer release()
	found, err := c.Reader.Outcome(ctx, id)
	j := journey{Kept: !errors.Is(err, readmodel.ErrNotKept)}
	away := err != nil && j.Kept
	if found.Type != "" {
		row := outcome(found)
		j.Outcome = &row
	}
	c.meter.mu.Lock()
	defer c.meter.mu.Unlock()
	t := c.meter.travels[id]
	if t == nil {
		if away {
			return nil, err
		}
		return j, nil
	}
	j.Sent = t.sent
	if t.count > 0 {
		j.Decided = &decided{t.took, t.count, t.last, t.events[:len(t.events):len(t.events)], t.changes[:len(t.changes):len(t.changes)]}
	}
	if !away {
		j.Visible = t.looked(j.Outcome != nil, time.Now())
	}
	return j, nil
}

// looked takes in whether there is a row now, and returns how long after the last event it came, if that is known.
func (t *travel) looked(found bool, now time.Time) *int64 {
	if !found {
		t.lackedAt = now
		return nil
	}
	if t.last && t.visibleAt.IsZero() && (now.Sub(t.lackedAt) < lackedMax || now.Sub(t.decidedAt) < decidedMax) {
		t.visibleAt = now
	}
	if t.visibleAt.IsZero() {
		return nil
	}
	visible := max(0, t.visibleAt.Sub(t.decidedAt).Milliseconds())
	return &visible
}
