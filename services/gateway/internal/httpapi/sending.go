package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/submit"
)

const (
	bodyBytesMax = 64 << 10
	qtyMax       = 1_000_000_000
	etaMin       = "1970-01-01" // what the read model's dates can hold
	etaMax       = "2299-12-31"
)

// tokenHeader has, in an answer to a command, the token of its outcome: a question that comes after it sees the outcome.
const tokenHeader = "Lotline-Token"

// The types of content that requests may have.
var (
	jsonTypes  = []string{schemas.ContentTypeJSON}
	patchTypes = []string{schemas.ContentTypeJSON, "application/merge-patch+json"}
)

// accepting reads the request's body before it takes a slot: clients that send
// slowly must not keep others out.
func accepting(types []string, bounds slots, handle func(*http.Request, []byte) answer) func(*http.Request) answer {
	return func(r *http.Request) answer {
		mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || !slices.Contains(types, mediaType) {
			ans := refused(http.StatusUnsupportedMediaType, "Send the body as Content-Type: "+types[0])
			if r.Method == http.MethodPatch {
				return ans.with("Accept-Patch", strings.Join(types, ", "))
			}
			return ans.with("Accept", strings.Join(types, ", "))
		}
		if coding := strings.Join(r.Header.Values("Content-Encoding"), ","); coding != "" && !strings.EqualFold(coding, "identity") {
			return refused(http.StatusUnsupportedMediaType, "Send the body as it is, without a Content-Encoding").with("Accept-Encoding", "identity")
		}
		body, err := io.ReadAll(r.Body)
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return refused(http.StatusRequestEntityTooLarge, fmt.Sprintf("The body has more than %d bytes", tooLarge.Limit))
		}
		if err != nil {
			return refused(http.StatusBadRequest, "The body could not be read to its end")
		}
		return bounds.bounded(func(r *http.Request) answer { return handle(r, body) })(r)
	}
}

// A verdict says how HTTP calls an outcome that is no rejection: its status, and where to see the result, "" = on the
// command's own page.
type verdict func(schemas.EventType) (status int, location string)

// send sends cmd and answers with what became of it, or with 202 when that is not known yet.
func (a *api) send(r *http.Request, cmd schemas.Command, said verdict) answer {
	key, fault := idempotencyKey(r.Header)
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	wait, applied := a.preferred(r.Header)
	result := a.Submitter.Submit(r.Context(), wait, submit.Request{Command: cmd, Key: key})[0]
	token := projected.Token{}
	addTo(token, result)
	return a.told(r, cmd.Type, result, said).with("Preference-Applied", applied).with(tokenHeader, token.String())
}

// addTo adds a result's place in the events to a token, if it has one.
func addTo(token projected.Token, result submit.Result) {
	if result.Err == nil && result.Outcome != nil && result.Outcome.Offset >= 0 {
		token.Add(result.Outcome.Partition, result.Outcome.Offset)
	}
}

// told is what a client is told of its command.
func (a *api) told(r *http.Request, command schemas.CommandType, result submit.Result, said verdict) answer {
	page := "/commands/" + pathSegment(result.CommandID)
	switch err := result.Err; {
	case errors.Is(err, submit.ErrKeyReused):
		return refused(http.StatusUnprocessableEntity, "The id "+result.CommandID+" was used for another command; choose a new one for each")
	case errors.Is(err, submit.ErrUnacknowledged), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable("Kafka did not acknowledge the command in time; ask "+page+", or send it again").with("Location", page)
	case err != nil:
		return a.internalError(r, err)
	}
	event := result.Outcome
	if event == nil {
		return answer{status: http.StatusAccepted, body: commandBody{result.CommandID, "pending"}}.with("Location", page)
	}
	if event.Type == schemas.EventCommandRejected {
		return rejected(command, &event.Event)
	}
	status, location := said(event.Type)
	if location == "" {
		location = page
	}
	return answer{status: status, body: commandBody{result.CommandID, event.Type.String()}}.with("Location", location)
}

// commandBody is what a command is answered with. It never names the batch that a line got: that is a
// question, for GET.
type commandBody struct {
	CommandID string `json:"commandid"`
	Outcome   string `json:"outcome"`
}

// rejected says no in HTTP's words. That a SKU is unknown is 400 only where the
// book has it so, for Allocate; what changes a batch or a line names it by its keys,
// and what is not there is not found, whichever of them is wrong.
func rejected(command schemas.CommandType, event *schemas.Event) answer {
	switch event.Reason {
	case "invalid_sku":
		status := http.StatusNotFound
		if command == schemas.CommandAllocate {
			status = http.StatusBadRequest
		}
		return refused(status, "Invalid sku "+event.SKU)
	case "qty_out_of_range", "eta_out_of_range":
		return refused(http.StatusBadRequest, event.Message)
	case "unknown_batch", "not_allocated":
		return refused(http.StatusNotFound, event.Message)
	case "conflicting_line", "conflicting_batch", "conflicting_command":
		return refused(http.StatusConflict, event.Message)
	default:
		return refused(http.StatusUnprocessableEntity, event.Message)
	}
}

// idempotencyKey reads the header of that name: a string of RFC 9651, in quotes, or, as most clients send it, without
// them. It is the command's id.
func idempotencyKey(header http.Header) (key, fault string) {
	values := header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", ""
	}
	key = values[0]
	if len(values) > 1 {
		return "", "There are several Idempotency-Keys; a command has one id"
	}
	if inner, quoted := strings.CutPrefix(key, `"`); quoted {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, `"`); !closed {
			return "", "The Idempotency-Key begins with a quote and does not end with one"
		}
		key = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(inner)
	}
	return key, checkID("Idempotency-Key", key, schemas.MaxIDBytes)
}

// decode reads a command and checks the ranges that the domain would refuse: it
// is known here already. The fault is a sentence, "" = none.
func decode(t schemas.CommandType, body []byte) (cmd schemas.Command, fault string) {
	cmd, err := schemas.DecodeCommand(t.CEType(), schemas.ContentTypeJSON, body)
	if err != nil {
		return cmd, err.Error()
	}
	qtyMin := int32(1)
	switch t {
	case schemas.CommandDeallocate:
		return cmd, ""
	case schemas.CommandChangeBatchQuantity:
		qtyMin = 0
	}
	switch {
	case cmd.Qty < qtyMin || cmd.Qty > qtyMax:
		return cmd, fmt.Sprintf("qty %d is not from %d to %d", cmd.Qty, qtyMin, qtyMax)
	case cmd.ETA != "" && (cmd.ETA < etaMin || cmd.ETA > etaMax):
		return cmd, fmt.Sprintf("eta %s is not from %s to %s", cmd.ETA, etaMin, etaMax)
	}
	return cmd, ""
}

// decodeNamed is decode for a body whose command is named by the path in part: by these path values, which are valid ids.
// The body may repeat them.
func decodeNamed(t schemas.CommandType, r *http.Request, body []byte, names ...string) (cmd schemas.Command, fault string) {
	if fault := checkPathIDs(r, names...); fault != "" {
		return cmd, fault
	}
	var fields map[string]jsontext.Value
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		if cmd, fault = decode(t, body); fault == "" {
			fault = "The body is not a JSON object"
		}
		return cmd, fault
	}
	for _, name := range names {
		given := jsontext.Value(nil)
		given, err := jsontext.AppendQuote(given, r.PathValue(name))
		if err != nil {
			return cmd, err.Error()
		}
		var said string
		if value, ok := fields[name]; ok && (json.Unmarshal(value, &said) != nil || said != r.PathValue(name)) {
			return cmd, fmt.Sprintf("The body has another %s than the path; leave it out of the body", name)
		}
		fields[name] = given
	}
	named, err := json.Marshal(fields)
	if err != nil {
		return cmd, err.Error()
	}
	return decode(t, named)
}

// pathSegment escapes an id for a path. PathEscape leaves dots alone, but a
// segment of nothing else would be taken for a step in the path.
func pathSegment(id string) string {
	if id == "." || id == ".." {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}
