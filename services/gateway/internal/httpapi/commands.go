package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/submit"
)

const (
	// commandIDBytesMax is more than any command id has: one given by a producer is
	// at most schemas.MaxIDBytes long, and one made from its place in the log is a
	// topic's name and two numbers.
	commandIDBytesMax = 512

	commandsMax      = 1000 // of one request
	manyBytesMax     = 1 << 20
	requestsPerBatch = 256 // how many requests one of many commands stands for, when they are bounded

	ndjsonType = "application/x-ndjson"
)

var ndjsonTypes = []string{ndjsonType, "application/ndjson", "application/jsonl"}

// ndjson is a body of lines.
type ndjson []byte

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
		return a.readFailed(r, err)
	case outcome.Type == "":
		return refused(http.StatusNotFound, "No outcome of command "+id+" is known, or not yet")
	default:
		var version tag // of one id, the first command counts, and its outcome stays
		version.add(outcome.CommandSource+" "+outcome.Type, outcome.Version)
		return answer{status: http.StatusOK, body: commandOutcome(outcome), etag: version.String()}
	}
}

// lineResult is what became of one line of many commands.
type lineResult struct {
	Line      int    `json:"line"`   // of the request, counted from 1
	Status    int    `json:"status"` // as of the command alone
	CommandID string `json:"commandid,omitempty"`
	Outcome   string `json:"outcome,omitempty"`
	Message   string `json:"message,omitempty"`
}

// manyCommands answers POST /commands: a command a line, as `lotline send` reads them, and a result a line, in the same
// order. What is wrong with one line is only that: the others are sent.
func (a *api) manyCommands(r *http.Request, body []byte) answer {
	if len(r.Header.Values("Idempotency-Key")) > 0 {
		return refused(http.StatusBadRequest, "An Idempotency-Key names one command; give each line its id instead")
	}
	wait, applied := a.preferred(r.Header)
	results, requests, at := readLines(body)
	if len(results) > commandsMax {
		return refused(http.StatusBadRequest, fmt.Sprintf("The body has more than %d commands; send 1 to %d, each on a line of its own", commandsMax, commandsMax))
	}
	if len(results) == 0 {
		return refused(http.StatusBadRequest, fmt.Sprintf("The body has no commands; send 1 to %d, each on a line of its own", commandsMax))
	}
	token := projected.Token{}
	for i, result := range a.Submitter.Submit(r.Context(), wait, requests...) {
		line, cmd := &results[at[i]], &requests[i].Command
		said := always(http.StatusOK, "")
		switch cmd.Type {
		case schemas.CommandCreateBatch:
			said = created(schemas.EventBatchCreated, "")
		case schemas.CommandAllocate:
			said = created(schemas.EventAllocated, "")
		}
		ans := a.told(r, cmd.Type, result, said)
		line.Status, line.CommandID, line.Message = ans.status, result.CommandID, ans.message
		if told, ok := ans.body.(commandBody); ok {
			line.Outcome = told.Outcome
		}
		addTo(token, result)
	}
	var lines ndjson
	for _, result := range results {
		line, err := json.Marshal(result)
		if err != nil {
			return a.internalError(r, err)
		}
		lines = append(append(lines, line...), '\n')
	}
	return answer{status: http.StatusOK, body: lines}.with("Preference-Applied", applied).with(tokenHeader, token.String())
}

// readLines reads commands. Each line that is not blank has a result; of those with nothing wrong, at says which.
func readLines(body []byte) (results []lineResult, requests []submit.Request, at []int) {
	number := 0
	ids := map[string]int{}
	body = bytes.TrimPrefix(body, []byte("\uFEFF")) // as some editors and spreadsheets begin a file
	for line := range bytes.Lines(body) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(results) > commandsMax {
			break
		}
		request, fault := readCommand(line)
		if first, twice := ids[request.Key]; twice && fault == "" {
			fault = fmt.Sprintf("The id is that of line %d too; a command has one of its own", first)
		}
		result := lineResult{Line: number, Status: http.StatusBadRequest, CommandID: request.Key, Message: fault}
		if fault == "" {
			if request.Key != "" {
				ids[request.Key] = number
			}
			requests, at = append(requests, request), append(at, len(results))
		}
		results = append(results, result)
	}
	return results, requests, at
}

// readCommand reads an object with the members type and, if the command is to have one, id, beside the command's own.
func readCommand(line []byte) (request submit.Request, fault string) {
	var head struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		// The decoder of the wire has the better sentence for what is no JSON.
		if _, fault = decode(schemas.CommandDeallocate, line); fault == "" || strings.HasSuffix(fault, "missing") {
			fault = "type and id must be strings"
		}
		return request, fault
	}
	if head.ID != "" {
		if fault = checkID("id", head.ID, schemas.MaxIDBytes); fault != "" {
			return request, fault
		}
	}
	for t := schemas.CommandCreateBatch; t <= schemas.CommandChangeBatchQuantity; t++ {
		if t.String() == head.Type {
			request.Key = head.ID
			request.Command, fault = decode(t, line)
			return request, fault
		}
	}
	return request, fmt.Sprintf("The type is %.50q and must be CreateBatch, Allocate, Deallocate or ChangeBatchQuantity", head.Type)
}
