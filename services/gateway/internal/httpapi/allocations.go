package httpapi

import (
	"context"
	"net/http"

	"github.com/lotline/lotline/pkg/readmodel"
)

// allocation is an order line that has a batch, as the book has it.
type allocation struct {
	SKU      string `json:"sku"`
	BatchRef string `json:"batchref"`
}

// allocatedLine is the same, with all that is known of it.
type allocatedLine struct {
	OrderID  string  `json:"orderid"`
	SKU      string  `json:"sku"`
	Qty      int32   `json:"qty"`
	BatchRef string  `json:"batchref"`
	ETA      *string `json:"eta"`     // of the batch; null: in stock
	Version  uint64  `json:"version"` // the SKU's, when the line last changed
}

// allocations answers GET /allocations/{orderid}: where the order's lines are.
func (a *api) allocations(r *http.Request) answer {
	if fault := checkPathIDs(r, "orderid"); fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.ReadWait)
	defer cancel()
	lines, err := a.Reader.Allocations(ctx, r.PathValue("orderid"))
	if err != nil {
		return a.readFailed(r, err)
	}
	if len(lines) == 0 {
		return refused(http.StatusNotFound, "No line of order "+r.PathValue("orderid")+" is allocated")
	}
	body := make([]allocation, len(lines))
	var versions tag
	for i, l := range lines {
		body[i] = allocation{SKU: l.SKU, BatchRef: l.BatchRef}
		versions.add(l.SKU, l.Version)
	}
	return answer{status: http.StatusOK, body: body, etag: versions.String()}
}

// allocation answers GET /allocations/{orderid}/{sku}: where one line is.
func (a *api) allocation(r *http.Request) answer {
	if fault := checkPathIDs(r, "orderid", "sku"); fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.ReadWait)
	defer cancel()
	lines, err := a.Reader.Lines(ctx, readmodel.LineKey{OrderID: r.PathValue("orderid"), SKU: r.PathValue("sku")})
	if err != nil {
		return a.readFailed(r, err)
	}
	if len(lines) == 0 {
		return refused(http.StatusNotFound, "No line of order "+r.PathValue("orderid")+" for sku "+r.PathValue("sku")+" is allocated")
	}
	l := lines[0]
	var version tag
	version.add(l.SKU, l.Version)
	return answer{
		status: http.StatusOK, body: allocatedLine{l.OrderID, l.SKU, l.Qty, l.BatchRef, etaOrNull(l.ETA), l.Version},
		etag: version.String(),
	}
}
