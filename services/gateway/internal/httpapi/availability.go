package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// promiseQtyMax is the largest quantity that a line can have.
const promiseQtyMax = 1_000_000_000

// availability is what is left of a SKU.
type availability struct {
	SKU       string      `json:"sku"`
	Version   uint64      `json:"version"`
	Available int64       `json:"available"`
	Batches   []batchLeft `json:"batches"` // with something left, in the order in which they are given out
	Promise   *promise    `json:"promise,omitempty"`
}

type batchLeft struct {
	Ref       string  `json:"ref"`
	Qty       int32   `json:"qty"`
	Available int32   `json:"available"`
	ETA       *string `json:"eta"` // null: in stock
}

// promise is the earliest that a line of that quantity can be promised. A line is allocated whole, so one batch has to
// have it all.
type promise struct {
	Qty      int32   `json:"qty"`
	Possible bool    `json:"possible"`
	ETA      *string `json:"eta"` // null: now, if it is possible
}

// availability answers GET /availability/{sku}: is it in stock, and when?
func (a *api) availability(r *http.Request) answer {
	sku := r.PathValue("sku")
	var query url.Values
	if r.URL.RawQuery != "" {
		query = r.URL.Query()
	}
	qty, fault := promisedQty(query)
	if fault == "" {
		fault = checkID("sku", sku, schemas.MaxIDBytes)
	}
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	found, err := a.Reader.Availability(r.Context(), sku)
	switch {
	case err != nil:
		return a.readFailed(r, err)
	case found[0].Version == 0:
		return refused(http.StatusNotFound, "No batch of sku "+sku+" is known, or not yet")
	default:
		var version tag
		version.availability(sku, &found[0])
		return a.cacheable(answer{status: http.StatusOK, body: left(&found[0], qty), etag: version.String()})
	}
}

// availabilityOfMany answers GET /availability?sku=…&sku=…, for a page that lists many.
func (a *api) availabilityOfMany(r *http.Request) answer {
	query := r.URL.Query()
	skus := query["sku"]
	qty, fault := promisedQty(query)
	if fault == "" {
		fault = checkSKUs(skus)
	}
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	found, err := a.Reader.Availability(r.Context(), skus...)
	if err != nil {
		return a.readFailed(r, err)
	}
	body := struct {
		Availability []availability `json:"availability"` // in the order asked for
		Unknown      []string       `json:"unknown"`
	}{[]availability{}, []string{}}
	var versions tag
	for i, sku := range skus {
		versions.availability(sku, &found[i])
		if found[i].Version == 0 {
			body.Unknown = append(body.Unknown, sku)
		} else {
			body.Availability = append(body.Availability, left(&found[i], qty))
		}
	}
	return a.cacheable(answer{status: http.StatusOK, body: body, etag: versions.String()})
}

func checkSKUs(skus []string) string {
	if len(skus) == 0 || len(skus) > readmodel.KeysMax {
		return fmt.Sprintf("The query names %d skus; ask for 1 to %d, each as sku=…", len(skus), readmodel.KeysMax)
	}
	for _, sku := range skus {
		if fault := checkID("sku", sku, schemas.MaxIDBytes); fault != "" {
			return fault
		}
	}
	return ""
}

// promisedQty returns the query's qty, 0 if it has none.
func promisedQty(query url.Values) (qty int32, fault string) {
	if !query.Has("qty") {
		return 0, ""
	}
	n, err := strconv.ParseInt(query.Get("qty"), 10, 32)
	if err != nil || n < 1 || n > promiseQtyMax {
		return 0, fmt.Sprintf("The qty is %q and must be a whole number from 1 to %d", query.Get("qty"), promiseQtyMax)
	}
	return int32(n), ""
}

// left makes an answer of what is left of a SKU, with a promise if qty is not 0.
func left(found *readmodel.Availability, qty int32) availability {
	body := availability{SKU: found.SKU, Version: found.Version, Available: found.Available, Batches: make([]batchLeft, 0, len(found.Batches))}
	for i := range found.Batches {
		if b := &found.Batches[i]; b.Available > 0 {
			body.Batches = append(body.Batches, batchLeft{b.Ref, b.Qty, b.Available, etaOrNull(b.ETA)})
		}
	}
	if qty > 0 {
		body.Promise = &promise{Qty: qty}
		// The batches are in the order of their eta, so the first that has enough is the earliest.
		if i := slices.IndexFunc(body.Batches, func(b batchLeft) bool { return b.Available >= qty }); i >= 0 {
			body.Promise.Possible, body.Promise.ETA = true, body.Batches[i].ETA
		}
	}
	return body
}

func etaOrNull(eta string) *string {
	if eta == "" {
		return nil
	}
	return &eta
}
