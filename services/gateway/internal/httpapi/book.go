package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lotline/lotline/schemas"
)

// lookupInterval is how often a batch's SKU is looked up until it is there.
const lookupInterval = 100 * time.Millisecond

// always is the verdict of the book's endpoints, which know success only: a repeat and a lack of stock are that too.
func always(status int, location string) verdict {
	return func(schemas.EventType) (int, string) { return status, location }
}

// addBatch answers POST /add_batch {ref, sku, qty, eta}.
func (a *api) addBatch(r *http.Request, body []byte) answer {
	cmd, fault := decode(schemas.CommandCreateBatch, body)
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	return a.send(r, cmd, always(http.StatusCreated, ""))
}

// allocate answers POST /allocate {orderid, sku, qty}.
func (a *api) allocate(r *http.Request, body []byte) answer {
	cmd, fault := decode(schemas.CommandAllocate, body)
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	return a.send(r, cmd, always(http.StatusAccepted, "/allocations/"+pathSegment(cmd.OrderID)))
}

// changeBatchQuantity answers POST /change_batch_quantity {ref, sku, qty}; the
// sku may be left out where the ref says enough.
func (a *api) changeBatchQuantity(r *http.Request, body []byte) answer {
	body, unnamed := nameSKU(body)
	cmd, fault := decode(schemas.CommandChangeBatchQuantity, body)
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	if unnamed {
		skus, err := a.skusOf(r, cmd.Ref)
		switch {
		case err != nil:
			return a.readFailed(r, err)
		case len(skus) == 0:
			return refused(http.StatusNotFound, "No batch with the ref "+cmd.Ref+" is known")
		case len(skus) > 1:
			return refused(http.StatusConflict, "Several SKUs have a batch with the ref "+cmd.Ref+": "+
				strings.Join(skus, ", ")+"; say which one with sku")
		}
		cmd.SKU = skus[0]
	}
	return a.send(r, cmd, always(http.StatusAccepted, ""))
}

// nameSKU puts some SKU where body has none (or null), so that all the rest can
// be checked before the SKU is looked up. A body that is no JSON object is left
// for decode to complain of.
func nameSKU(body []byte) (named []byte, unnamed bool) {
	var fields map[string]jsontext.Value
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return body, false
	}
	if sku, ok := fields["sku"]; ok && sku.Kind() != 'n' {
		return body, false
	}
	fields["sku"] = jsontext.Value(`"?"`)
	named, err := json.Marshal(fields)
	if err != nil {
		return body, false
	}
	return named, true
}

var errStopping = errors.New("the gateway is about to stop")

// skusOf finds whose batch ref is. The read model follows the commands at a
// distance: for as long as the client would wait for an outcome, a batch that is
// not there may be on its way.
func (a *api) skusOf(r *http.Request, ref string) ([]string, error) {
	wait, _ := a.preferred(r.Header)
	deadline := time.Now().Add(wait)
	ctx, cancel := context.WithTimeout(r.Context(), max(wait, a.ReadWait))
	defer cancel()
	for {
		skus, err := a.Reader.SKUs(ctx, ref)
		if err != nil || len(skus) > 0 || time.Until(deadline) < lookupInterval {
			return skus, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-a.Stopping:
			return nil, errStopping
		case <-time.After(lookupInterval):
		}
	}
}
