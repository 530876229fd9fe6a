package httpapi

import (
	"net/http"

	"github.com/lotline/lotline/schemas"
)

func batchPath(sku, ref string) string {
	return "/batches/" + pathSegment(sku) + "/" + pathSegment(ref)
}

// createBatch answers POST /batches {ref, sku, qty, eta}: 201 if it is new, 200 if it was there already, the same.
func (a *api) createBatch(r *http.Request, body []byte) answer {
	cmd, fault := decode(schemas.CommandCreateBatch, body)
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	return a.send(r, cmd, created(schemas.EventBatchCreated, batchPath(cmd.SKU, cmd.Ref)))
}

// created is the verdict on what makes a resource: 201 if the outcome is that event, 200 if not. What is at the
// location is there all the same, but for a line that is out of stock.
func created(by schemas.EventType, location string) verdict {
	return func(outcome schemas.EventType) (int, string) {
		switch outcome {
		case by:
			return http.StatusCreated, location
		case schemas.EventOutOfStock:
			return http.StatusOK, ""
		default:
			return http.StatusOK, location
		}
	}
}

// changeBatch answers PATCH /batches/{sku}/{ref} {qty}: the purchased quantity.
func (a *api) changeBatch(r *http.Request, body []byte) answer {
	cmd, fault := decodeNamed(schemas.CommandChangeBatchQuantity, r, body, "sku", "ref")
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	return a.send(r, cmd, always(http.StatusOK, batchPath(cmd.SKU, cmd.Ref)))
}

// batchState is all that is known of a batch.
type batchState struct {
	SKU       string  `json:"sku"`
	Ref       string  `json:"ref"`
	Qty       int32   `json:"qty"` // purchased
	Available int32   `json:"available"`
	ETA       *string `json:"eta"` // null: in stock
}

// batch answers GET /batches/{sku}/{ref}.
func (a *api) batch(r *http.Request) answer {
	if fault := checkPathIDs(r, "sku", "ref"); fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	sku, ref := r.PathValue("sku"), r.PathValue("ref")
	found, err := a.Reader.Availability(r.Context(), sku)
	if err != nil {
		return a.readFailed(r, err)
	}
	for _, b := range found[0].Batches {
		if b.Ref == ref {
			var version tag // the SKU's too: not every store keeps the batch's
			version.add(sku, found[0].Version)
			version.add(b.Ref, b.Version)
			return a.cacheable(answer{status: http.StatusOK, body: batchState{sku, b.Ref, b.Qty, b.Available, etaOrNull(b.ETA)}, etag: version.String()})
		}
	}
	return refused(http.StatusNotFound, "No batch "+ref+" of sku "+sku+" is known, or not yet")
}
