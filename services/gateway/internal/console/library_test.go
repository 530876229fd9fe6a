package console

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/topics"
	"github.com/twmb/franz-go/pkg/kgo"
)

// library is a read model with a SKU, an order, a command and a batch, or one that is away.
type library struct {
	away bool
}

func (l *library) fail() error {
	if l.away {
		return errAway
	}
	return nil
}

func (l *library) Allocations(_ context.Context, id string) ([]readmodel.Allocation, error) {
	if id == "order" {
		return []readmodel.Allocation{{SKU: "CHAIR", BatchRef: "b"}}, l.fail()
	}
	return nil, l.fail()
}

func (l *library) Lines(_ context.Context, keys ...readmodel.LineKey) (found []readmodel.Line, _ error) {
	for _, key := range keys {
		found = append(found, readmodel.Line{OrderID: key.OrderID, SKU: key.SKU, BatchRef: "b", Qty: 3})
	}
	return found, l.fail()
}

func (l *library) Availability(_ context.Context, skus ...string) ([]readmodel.Availability, error) {
	if skus[0] == "CHAIR" || skus[0] == "both" {
		return []readmodel.Availability{{SKU: skus[0], Version: 4, Available: 7, Batches: []readmodel.Batch{{Ref: "b", Qty: 10, Available: 7}}}}, l.fail()
	}
	return make([]readmodel.Availability, len(skus)), l.fail()
}

func (l *library) Outcome(_ context.Context, id string) (readmodel.Outcome, error) {
	if id == "command" || id == "both" {
		return readmodel.Outcome{CommandID: id, Type: "Allocated"}, l.fail()
	}
	return readmodel.Outcome{}, l.fail()
}

func (l *library) SKUs(_ context.Context, ref string) ([]string, error) {
	if ref == "b" {
		return []string{"CHAIR", "SOFA"}, l.fail()
	}
	return nil, l.fail()
}

func (l *library) History(_ context.Context, sku string, before uint64, _ int) ([]readmodel.Change, error) {
	return []readmodel.Change{{Type: "BatchCreated", SKU: sku, Version: max(before, 1)}}, l.fail()
}

func (l *library) Story(_ context.Context, id string, _ int) ([]readmodel.Change, error) {
	if id == "only-refused" || id == "order" {
		return []readmodel.Change{{Type: "OutOfStock", OrderID: id}}, l.fail()
	}
	return nil, l.fail()
}

func newConsole(l *library, opts ...kgo.Opt) *Console {
	return New(Config{Topics: topics.Declared("lotline"), ProjectorGroup: "lotline.projector", ReadModel: "clickhouse", ReadWait: time.Second, Kafka: opts},
		Ports{Reader: l, History: l, Outages: func() []admin.Outage { return nil }, Log: slog.New(slog.DiscardHandler)})
}

func get(c *Console, path string) (status int, body string, header http.Header) {
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String(), w.Header()
}
