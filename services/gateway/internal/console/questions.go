package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/services/gateway/internal/reads"
	"golang.org/x/sync/errgroup"
)

const (
	idBytesMax   = 512 // a command's id may be its place in the log, which is longer than an id that is given
	historyLimit = 200
)

// checked returns an id from a query, or why it cannot be one.
func checked(id string) (string, error) {
	switch {
	case id == "":
		return "", fault{http.StatusBadRequest, "The id must not be empty"}
	case len(id) > idBytesMax:
		return "", fault{http.StatusBadRequest, fmt.Sprintf("The id is %d bytes; at most %d are accepted", len(id), idBytesMax)}
	case !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl):
		return "", fault{http.StatusBadRequest, "The id is not UTF-8 without control characters"}
	}
	return id, nil
}

// slot waits for one of the places of questions that are not gathered, and for no longer than an answer may take. Its
// context is for the question.
func (c *Console) slot(r *http.Request) (ctx context.Context, release func(), err error) {
	ctx, cancel := context.WithTimeout(r.Context(), c.ReadWait)
	select {
	case c.asked <- struct{}{}:
		return ctx, func() { <-c.asked; cancel() }, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, fault{http.StatusServiceUnavailable, "Too many questions are under way; try again"}
	}
}

// change is a readmodel.Change as an answer.
type change struct {
	Type           string    `json:"type"`
	SKU            string    `json:"sku"`
	Version        uint64    `json:"version"`
	CommandID      string    `json:"commandid"`
	CommandSource  string    `json:"commandsource"`
	OrderID        string    `json:"orderid"`
	Qty            int32     `json:"qty"`
	BatchRef       string    `json:"batchref"`
	BatchQty       int32     `json:"batch_qty"`
	BatchAvailable int32     `json:"batch_available"`
	ETA            string    `json:"eta"`
	Available      int64     `json:"available"`
	Reason         string    `json:"reason"`
	Message        string    `json:"message"`
	EventTime      time.Time `json:"event_time"`
}

// past asks for what was. kept is false, and there are no changes, if the store keeps only what is.
func (c *Console) past(r *http.Request, ask func(context.Context) ([]readmodel.Change, error)) (changes []change, kept bool, err error) {
	changes = []change{}
	if c.History == nil {
		return changes, false, nil
	}
	ctx, release, err := c.slot(r)
	if err != nil {
		return nil, true, err
	}
	defer release()
	found, err := ask(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		c.warn(err)
	}
	for i := range found {
		changes = append(changes, change(found[i]))
	}
	return changes, true, err
}

// batch is a readmodel.Batch as an answer.
type batch struct {
	Ref       string `json:"ref"`
	Qty       int32  `json:"qty"`
	Available int32  `json:"available"`
	ETA       string `json:"eta"`
	Version   uint64 `json:"version"`
}

// sku answers GET /console/sku?id=SKU: what it has, and what happened to it; with before=VERSION only what happened
// before that.
func (c *Console) sku(r *http.Request) (any, error) {
	id, err := checked(r.URL.Query().Get("id"))
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	var before uint64
	if text := r.URL.Query().Get("before"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 63); err != nil {
			return nil, fault{http.StatusBadRequest, "before is not a version, which is a whole number from 1"}
		}
	} else {
		ctx, cancel := context.WithTimeout(r.Context(), c.ReadWait)
		defer cancel()
		found, err := c.Reader.Availability(ctx, id)
		if err != nil {
			return nil, err
		}
		a := found[0]
		batches := make([]batch, len(a.Batches))
		for i, b := range a.Batches {
			batches[i] = batch(b)
		}
		answer["version"], answer["available"], answer["batches"] = a.Version, a.Available, batches
	}
	answer["changes"], answer["kept"], err = c.past(r, func(ctx context.Context) ([]readmodel.Change, error) {
		return c.History.History(ctx, id, before, historyLimit)
	})
	return answer, err
}

// line is a readmodel.Line as an answer.
type line struct {
	SKU      string `json:"sku"`
	BatchRef string `json:"batchref"`
	Qty      int32  `json:"qty"`
	ETA      string `json:"eta"`
}

// order answers GET /console/order?id=ORDERID: where its lines are, and what happened to them.
func (c *Console) order(r *http.Request) (any, error) {
	id, err := checked(r.URL.Query().Get("id"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.ReadWait)
	defer cancel()
	allocated, err := c.Reader.Allocations(ctx, id)
	if err != nil {
		return nil, err
	}
	keys := make([]readmodel.LineKey, len(allocated))
	for i, a := range allocated {
		keys[i] = readmodel.LineKey{OrderID: id, SKU: a.SKU}
	}
	found, err := c.Reader.Lines(ctx, keys...)
	if err != nil {
		return nil, err
	}
	lines := make([]line, len(found))
	for i, l := range found {
		lines[i] = line{l.SKU, l.BatchRef, l.Qty, l.ETA}
	}
	changes, kept, err := c.past(r, func(ctx context.Context) ([]readmodel.Change, error) {
		return c.History.Story(ctx, id, readmodel.ChangesMax)
	})
	return map[string]any{"lines": lines, "changes": changes, "kept": kept}, err
}

// hit is something that a search found.
type hit struct {
	Kind string `json:"kind"` // sku, order, command or batch
	ID   string `json:"id"`
	SKU  string `json:"sku,omitempty"` // of a batch
}

// search answers GET /console/search?q=…: what has that id, whatever it is an id of.
func (c *Console) search(r *http.Request) (any, error) {
	q, err := checked(strings.TrimSpace(r.URL.Query().Get("q")))
	if err != nil {
		return nil, err
	}
	ctx, release, err := c.slot(r)
	if err != nil {
		return nil, err
	}
	defer release()
	var sku, allocated, mentioned, command bool
	var refs []string
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		found, err := c.Reader.Availability(ctx, q)
		sku = err == nil && found[0].Version > 0
		return err
	})
	group.Go(func() error {
		lines, err := c.Reader.Allocations(ctx, q)
		if errors.Is(err, reads.ErrTooLarge) {
			allocated = true
			return nil
		}
		allocated = len(lines) > 0
		return err
	})
	group.Go(func() error {
		outcome, err := c.Reader.Outcome(ctx, q)
		command = outcome.Type != ""
		if errors.Is(err, readmodel.ErrNotKept) {
			err = nil
		}
		return err
	})
	group.Go(func() (err error) {
		refs, err = c.Reader.SKUs(ctx, q)
		return err
	})
	group.Go(func() error {
		if c.History == nil {
			return nil
		}
		story, err := c.History.Story(ctx, q, 1) // of an order without a line that is allocated
		mentioned = len(story) > 0
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	hits := []hit{}
	for _, found := range []struct {
		yes  bool
		kind string
	}{{sku, "sku"}, {allocated || mentioned, "order"}, {command, "command"}} {
		if found.yes {
			hits = append(hits, hit{Kind: found.kind, ID: q})
		}
	}
	for _, of := range refs {
		hits = append(hits, hit{Kind: "batch", ID: q, SKU: of})
	}
	return map[string]any{"hits": hits}, nil
}
