package httpapi

import (
	"context"
	"net/http"

	"github.com/lotline/lotline/schemas"
)

// commandIDBytesMax is more than any command id has: one given by a producer is
// at most schemas.MaxIDBytes long, and one made from its place in the log is a
// topic's name and two numbers.
const commandIDBytesMax = 512

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
		return answer{status: http.StatusOK, body: lines}
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
	case outcome == nil:
		return refused(http.StatusNotFound, "No outcome of command "+id+" is known, or not yet")
	default:
		return answer{status: http.StatusOK, body: outcome}
	}
}
