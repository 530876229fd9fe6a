package httpapi

import (
	"net/http"

	"github.com/lotline/lotline/schemas"
)

// allocateLine answers POST /orders/{orderid}/lines {sku, qty}: 201 if the line has a batch now, 200 with the outcome if
// it had one before, or if there is not enough in stock: that is an answer too, and creates nothing.
func (a *api) allocateLine(r *http.Request, body []byte) answer {
	cmd, fault := decodeNamed(schemas.CommandAllocate, r, body, "orderid")
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	return a.send(r, cmd, created(schemas.EventAllocated, "/allocations/"+pathSegment(cmd.OrderID)+"/"+pathSegment(cmd.SKU)))
}

// deallocateLine answers DELETE /orders/{orderid}/lines/{sku}: its batch has the units back.
func (a *api) deallocateLine(r *http.Request) answer {
	if fault := checkPathIDs(r, "orderid", "sku"); fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	cmd := schemas.Command{Type: schemas.CommandDeallocate, OrderID: r.PathValue("orderid"), SKU: r.PathValue("sku")}
	return a.send(r, cmd, always(http.StatusOK, ""))
}
