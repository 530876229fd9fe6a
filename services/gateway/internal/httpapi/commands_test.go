package httpapi

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/stretchr/testify/require"
)

func TestCommand(t *testing.T) {
	for _, id := range append(oddIDs, "lotline.commands/11/123456") {
		t.Run(id, func(t *testing.T) {
			f := &fake{outcomes: map[string]readmodel.Outcome{id: {
				CommandID: "c", CommandSource: "/shop", Type: "Allocated", SKU: "CHAIR", Version: 18446744073709551615, OrderID: "o1",
				BatchRef: "b1", EventTime: time.UnixMilli(1_900_000_000_123).UTC(),
			}}}
			resp, body := f.do(t, "GET", "/commands/"+pathSegment(id), "")
			require.Equal(t, 200, resp.StatusCode)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			require.Equal(t, `{"commandid":"c","commandsource":"/shop","outcome":"Allocated","sku":"CHAIR","version":18446744073709551615,`+
				`"orderid":"o1","batchref":"b1","reason":"","message":"","event_time":"2030-03-17T17:46:40.123Z"}`, body)
		})
	}
}

func TestCommandIDMayHaveSlashesInThePath(t *testing.T) {
	f := &fake{outcomes: map[string]readmodel.Outcome{"lotline.commands/3/7": {Type: "OutOfStock"}}}
	resp, _ := f.do(t, "GET", "/commands/lotline.commands/3/7", "")
	require.Equal(t, 200, resp.StatusCode)
}

func TestUnknownOrImpossibleCommand(t *testing.T) {
	tests := map[string]struct {
		path, detail string
		status       int
	}{
		"unknown":   {"c1", "No outcome of command c1 is known, or not yet", 404},
		"empty":     {"", "The command id must not be empty", 400},
		"NUL":       {"c%00", "The command id contains a control character", 400},
		"not UTF-8": {"%ff", "The command id is not valid UTF-8", 400},
		"too long":  {url.PathEscape(strings.Repeat("x", 513)), "The command id is 513 bytes; at most 512 are accepted", 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := new(fake).do(t, "GET", "/commands/"+test.path, "")
			require.Equal(t, test.status, resp.StatusCode)
			require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
			require.Contains(t, body, `"detail":"`+test.detail+`"`)
		})
	}
}
