package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/gateway/internal/submit"
)

const (
	bodyBytesMax = 64 << 10
	qtyMax       = 1_000_000_000
	etaMin       = "1970-01-01" // what the read model's dates can hold
	etaMax       = "2299-12-31"

	// lookupInterval is how often a batch's SKU is looked up until it is there.
	lookupInterval = 100 * time.Millisecond
)

// accepting reads the request's body before it takes a slot: clients that send
// slowly must not keep others out.
func (a *api) accepting(handle func(*http.Request, []byte) answer) func(*http.Request) answer {
	return func(r *http.Request) answer {
		mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || mediaType != schemas.ContentTypeJSON {
			return refused(http.StatusUnsupportedMediaType, "Send the body as Content-Type: "+schemas.ContentTypeJSON)
		}
		body, err := io.ReadAll(r.Body)
		switch {
		case errors.As(err, new(*http.MaxBytesError)):
			return refused(http.StatusRequestEntityTooLarge, fmt.Sprintf("The body has more than %d bytes", bodyBytesMax))
		case err != nil:
			return refused(http.StatusBadRequest, "The body could not be read to its end")
		}
		return a.commands.bounded(func(r *http.Request) answer { return handle(r, body) })(r)
	}
}

// addBatch answers POST /add_batch {ref, sku, qty, eta}.
func (a *api) addBatch(r *http.Request, body []byte) answer {
	cmd, fault := decode(schemas.CommandCreateBatch, body)
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	return a.send(r, &cmd, http.StatusCreated, "")
}

// allocate answers POST /allocate {orderid, sku, qty}.
func (a *api) allocate(r *http.Request, body []byte) answer {
	cmd, fault := decode(schemas.CommandAllocate, body)
	if fault != "" {
		return refused(http.StatusBadRequest, fault)
	}
	return a.send(r, &cmd, http.StatusAccepted, "/allocations/"+pathSegment(cmd.OrderID))
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
			return a.readFailed(r.Context(), err)
		case len(skus) == 0:
			return refused(http.StatusNotFound, "No batch with the ref "+cmd.Ref+" is known")
		case len(skus) > 1:
			return refused(http.StatusConflict, "Several SKUs have a batch with the ref "+cmd.Ref+": "+
				strings.Join(skus, ", ")+"; say which one with sku")
		}
		cmd.SKU = skus[0]
	}
	return a.send(r, &cmd, http.StatusAccepted, "")
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
		case <-time.After(lookupInterval):
		}
	}
}

// decode reads a command and checks the ranges that the domain would refuse: it
// is known here already. The fault is a sentence, "" = none.
func decode(t schemas.CommandType, body []byte) (cmd schemas.Command, fault string) {
	cmd, err := schemas.DecodeCommand(t.CEType(), schemas.ContentTypeJSON, body)
	if err != nil {
		return cmd, err.Error()
	}
	qtyMin := int32(1)
	if t == schemas.CommandChangeBatchQuantity {
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

// send sends cmd and answers with what became of it: status when it was carried
// out (a repeat and a lack of stock are that too), 202 when that is not known
// yet. location is where to see the result; "" = the command's own page.
func (a *api) send(r *http.Request, cmd *schemas.Command, status int, location string) answer {
	wait, applied := a.preferred(r.Header)
	receipt, err := a.Submitter.Submit(r.Context(), cmd, wait)
	page := "/commands/" + pathSegment(receipt.CommandID)
	switch {
	case errors.Is(err, submit.ErrUnacknowledged), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		ans := unavailable("Kafka did not acknowledge the command in time; ask " + page + ", or send it again")
		ans.header["Location"] = page
		return ans
	case err != nil:
		return a.internalError(r.Context(), err)
	}

	ans := answer{status: http.StatusAccepted, header: map[string]string{"Location": page}}
	body := commandBody{receipt.CommandID, "pending"}
	if event := receipt.Outcome; event != nil {
		body.Outcome = event.Type.String()
		ans.status = status
		if location != "" {
			ans.header["Location"] = location
		}
		if event.Type == schemas.EventCommandRejected {
			ans = rejected(cmd.Type, event)
		}
	}
	if ans.message == "" {
		ans.body = body
	}
	if applied != "" {
		if ans.header == nil {
			ans.header = map[string]string{}
		}
		ans.header["Preference-Applied"] = applied
	}
	return ans
}

// commandBody is what a POST answers. It never names the batch: that is a
// question, for GET.
type commandBody struct {
	CommandID string `json:"commandid"`
	Outcome   string `json:"outcome"`
}

// rejected says no in HTTP's words. That a SKU is unknown is 400 only where the
// book has it so, at /allocate; what changes a batch names it by SKU and ref,
// and a batch that is not there is not found, whichever of the two is wrong.
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

// pathSegment escapes an id for a path. PathEscape leaves dots alone, but a
// segment of nothing else would be taken for a step in the path.
func pathSegment(id string) string {
	if id == "." || id == ".." {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}
