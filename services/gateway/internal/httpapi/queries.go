package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/lotline/lotline/schemas"
)

// commandIDBytesMax is more than any command id has: one given by a producer is
// at most schemas.MaxIDBytes long, and one made from its place in the log is a
// topic's name and two numbers.
const commandIDBytesMax = 512

// allocation is an order line that has a batch.
type allocation struct {
	SKU      string `json:"sku"`
	BatchRef string `json:"batchref"`
}

// commandOutcome is a readmodel.Outcome as an answer.
type commandOutcome struct {
	CommandID     string    `json:"commandid"`
	CommandSource string    `json:"commandsource"`
	Type          string    `json:"outcome"`
	SKU           string    `json:"sku"`
	Version       uint64    `json:"version"`
	OrderID       string    `json:"orderid"`
	BatchRef      string    `json:"batchref"`
	Reason        string    `json:"reason"`
	Message       string    `json:"message"`
	EventTime     time.Time `json:"event_time"`
}

// allocations answers GET /allocations/{orderid}: where the order's lines are.
func (a *api) allocations(r *http.Request) answer {
	orderID := r.PathValue("orderid")
	if fault := checkID("orderid", orderID, schemas.MaxIDBytes); fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.ReadWait)
	defer cancel()
	lines, err := a.Reader.Allocations(ctx, orderID)
	switch {
	case err != nil:
		return a.readFailed(r.Context(), err)
	case len(lines) == 0:
		return refused(http.StatusNotFound, "No line of order "+orderID+" is allocated")
	default:
		body := make([]allocation, len(lines))
		for i, l := range lines {
			body[i] = allocation{SKU: l.SKU, BatchRef: l.BatchRef}
		}
		return answer{status: http.StatusOK, body: body}
	}
}

// command answers GET /commands/{id}: what became of it.
func (a *api) command(r *http.Request) answer {
	id := r.PathValue("id")
	if fault := checkID("command id", id, commandIDBytesMax); fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.ReadWait)
	defer cancel()
	outcome, err := a.Reader.Outcome(ctx, id)
	switch {
	case err != nil:
		return a.readFailed(r.Context(), err)
	case outcome.Type == "":
		return refused(http.StatusNotFound, "No outcome of command "+id+" is known, or not yet")
	default:
		return answer{status: http.StatusOK, body: commandOutcome(outcome)}
	}
}
