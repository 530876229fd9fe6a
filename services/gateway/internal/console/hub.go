package console

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/services/gateway/internal/submit"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	sampleEvery  = time.Second
	lookTimeout  = 2 * time.Second
	samplesKept  = 600 // ten minutes
	viewersMax   = 64
	warnInterval = 10 * time.Second
	// A viewer who is that many samples behind is let go; the page asks again for what it missed.
	viewerBehindMax = 16
)

// Sample is what happened in about a second. What is not known is null.
type Sample struct {
	ID          int64          `json:"id"`
	Time        int64          `json:"time"`         // Unix ms
	Commands    *float64       `json:"commands"`     // a second, by the growth of the topic
	DeadLetters *float64       `json:"dead_letters"` // likewise; transactions' marks count too
	LettersEnd  *int64         `json:"letters_end"`  // where their topic ends: another number, other dead letters
	Events      float64        `json:"events"`       // a second, as seen by this gateway
	Decision    *Latency       `json:"decision"`     // from a command's append to its event's
	Unprojected *float64       `json:"unprojected"`  // age of the oldest event that is not in the read model, ms; 0: all are
	Allocators  *Group         `json:"allocators"`
	Projectors  *Group         `json:"projectors"`
	Outages     []admin.Outage `json:"outages"`
	Refused     string         `json:"refused,omitempty"` // what Kafka does not let this gateway see, and what to do about it
	Recent      []Recent       `json:"recent"`
}

// hub makes a sample a second while somebody watches, and hands it to all who do.
type hub struct {
	meter *meter
	wake  chan struct{} // somebody came

	mu      sync.Mutex
	viewers map[chan *Sample]struct{}
	closed  bool
	kept    []*Sample
	lastID  int64
}

func newHub(m *meter) *hub {
	// Ids go on growing over a restart, so that a page that comes back is not taken for one that is ahead.
	return &hub{meter: m, wake: make(chan struct{}, 1), viewers: map[chan *Sample]struct{}{}, lastID: time.Now().UnixMilli()}
}

// errFull says that as many watch as can.
var errFull = errors.New("too many viewers")

// join returns a channel of samples, with those kept after an id first. It is closed when the viewer is too slow; leave
// must be called in any case.
func (h *hub) join(after int64) (kept []*Sample, samples <-chan *Sample, leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.viewers) == viewersMax {
		return nil, nil, nil, errFull
	}
	ch := make(chan *Sample, viewerBehindMax)
	h.viewers[ch] = struct{}{}
	h.meter.watched.Store(int32(len(h.viewers)))
	select {
	case h.wake <- struct{}{}:
	default:
	}
	oldest := time.Now().Add(-samplesKept * sampleEvery).UnixMilli() // nobody may have looked for hours
	for _, s := range h.kept {
		if s.ID > after && s.Time > oldest {
			kept = append(kept, s)
		}
	}
	return kept, ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(ch)
	}, nil
}

// drop lets a viewer go, at most once. The caller holds mu.
func (h *hub) drop(ch chan *Sample) {
	if _, ok := h.viewers[ch]; ok {
		delete(h.viewers, ch)
		close(ch)
		h.meter.watched.Store(int32(len(h.viewers)))
	}
}

// close lets all viewers go: a server that stops waits for those it answers.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for ch := range h.viewers {
		h.drop(ch)
	}
}

// publish keeps a sample and hands it to all viewers, waiting for none.
func (h *hub) publish(s *Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID = max(h.lastID+1, s.Time)
	s.ID = h.lastID
	if len(h.kept) == samplesKept {
		h.kept = h.kept[1:]
	}
	h.kept = append(h.kept, s)
	for ch := range h.viewers {
		select {
		case ch <- s:
		default:
			h.drop(ch)
		}
	}
}

// Listener returns who wants to hear of events.
func (c *Console) Listener() submit.Listener { return c.meter }

// Run makes live numbers while somebody watches, until ctx ends; then it returns nil.
func (c *Console) Run(ctx context.Context) error {
	client, err := kgo.NewClient(c.Kafka...)
	if err != nil {
		return fmt.Errorf("configure the console's Kafka client: %w", err)
	}
	defer client.Close()
	defer c.hub.close()
	adm := kadm.NewClient(client)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.hub.wake:
			c.sample(ctx, adm)
		}
	}
}

// sample makes samples until nobody watches any more or ctx ends.
func (c *Console) sample(ctx context.Context, adm *kadm.Client) {
	c.meter.forget()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var before standing
	began := time.Now()
	for c.meter.Listening() {
		var s Sample
		s, before = c.measure(ctx, adm, before, began)
		began = time.UnixMilli(s.Time)
		c.hub.publish(&s)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// measure makes a sample of what happened since began. Rates are those between two looks at Kafka.
func (c *Console) measure(ctx context.Context, adm *kadm.Client, before standing, began time.Time) (Sample, standing) {
	looking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	now, err := look(looking, adm, c.Topics, c.ProjectorGroup)
	if err != nil && ctx.Err() == nil {
		c.warn(err)
	}
	s := Sample{Time: time.Now().UnixMilli(), Outages: c.Outages(), Recent: []Recent{}}
	events, latency, recent := c.meter.take()
	s.Decision, s.Recent = latency, append(s.Recent, recent...)
	s.Events = float64(events) / max(time.UnixMilli(s.Time).Sub(began).Seconds(), 0.001)
	if err != nil {
		if kafkaclient.Refused(err) {
			s.Refused = err.Error()
		}
		return s, standing{}
	}
	s.LettersEnd = &now.deadLetters
	s.Allocators, s.Unprojected = &now.allocators, c.unprojected(now)
	if c.ProjectorGroup != "" {
		s.Projectors = &now.projectors
	}
	if !before.at.IsZero() {
		seconds := now.at.Sub(before.at).Seconds()
		rate := func(end, was int64) *float64 {
			r := max(0, float64(end-was)) / seconds
			return &r
		}
		s.Commands = rate(total(now.commands), total(before.commands))
		s.DeadLetters = rate(now.deadLetters, before.deadLetters)
	}
	return s, now
}

// unprojected returns how old the oldest event is that the read model has not got, in milliseconds; nil if it was
// appended before anybody looked.
func (c *Console) unprojected(now standing) *float64 {
	oldest := 0.0
	if c.ProjectorGroup == "" { // the write side has each event before it is published
		return &oldest
	}
	for partition, end := range now.events {
		at := now.projected[partition]
		if at >= end {
			continue
		}
		appended, seen := c.meter.appended(partition, at)
		if !seen {
			return nil
		}
		oldest = max(oldest, ms(now.at.Sub(appended)))
	}
	return &oldest
}

// warn logs that something could not be asked, now and then: when a server is away, every question fails.
func (c *Console) warn(err error) {
	now, last := time.Now().UnixNano(), c.warned.Load()
	if now-last > int64(warnInterval) && c.warned.CompareAndSwap(last, now) {
		c.Log.Warn("the console could not ask for what it shows", "error", err)
	}
}
