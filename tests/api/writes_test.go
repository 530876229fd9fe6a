//go:build integration

package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	within = 20 * time.Second
	look   = 20 * time.Millisecond
)

func TestAKeyHasOneEffectAndOneOutcomeEverywhere(t *testing.T) {
	onKfake(t, func(s *site) {
		gateways := []string{s.gateway, s.another()}
		say := func(gateway int, key, method, path, body string) answer {
			return s.ask(gateways[gateway], method, path, body, "Idempotency-Key", key, "Prefer", "wait=10")
		}
		type command struct{ key, method, path, body string }
		for _, c := range []struct {
			command
			status int
			want   string
			others []command // with the same key
		}{
			{
				command{"k-1", "POST", "/batches", `{"ref":"b/1","sku":"CHAIR","qty":10,"eta":null}`},
				201, `{"commandid":"k-1","outcome":"BatchCreated"}`,
				[]command{{"k-1", "POST", "/batches", `{"ref":"b/1","sku":"CHAIR","qty":11,"eta":null}`}, {"k-1", "POST", "/batches", `{"ref":"b2","sku":"CHAIR","qty":10,"eta":null}`}},
			},
			{
				command{"k-2", "POST", "/orders/o1/lines", `{"sku":"CHAIR","qty":3}`},
				201, `{"commandid":"k-2","outcome":"Allocated"}`,
				[]command{
					{"k-2", "POST", "/orders/o1/lines", `{"sku":"CHAIR","qty":4}`},
					{"k-2", "POST", "/orders/o2/lines", `{"sku":"CHAIR","qty":3}`},
					{"k-2", "POST", "/orders/o1/lines", `{"sku":"TABLE","qty":3}`},
					{"k-2", "DELETE", "/orders/o1/lines/CHAIR", ""},
				},
			},
			{
				command{"k-3", "POST", "/allocate", `{"orderid":"o3","sku":"CHAIR","qty":100}`},
				202, `{"commandid":"k-3","outcome":"OutOfStock"}`,
				[]command{{"k-3", "POST", "/allocate", `{"orderid":"o3","sku":"CHAIR","qty":1}`}},
			},
			{
				command{"k-4", "POST", "/allocate", `{"orderid":"o4","sku":"NO-CHAIR","qty":1}`},
				400, `{"message":"Invalid sku NO-CHAIR"}`,
				[]command{{"k-4", "POST", "/allocate", `{"orderid":"o4","sku":"CHAIR","qty":1}`}},
			},
			{
				command{"k-5", "PATCH", "/batches/CHAIR/b%2F1", `{"qty":12}`},
				200, `{"commandid":"k-5","outcome":"BatchQuantityChanged"}`,
				[]command{{"k-5", "PATCH", "/batches/CHAIR/b%2F1", `{"qty":13}`}},
			},
			{
				command{"k-6", "DELETE", "/orders/o1/lines/CHAIR", ""},
				200, `{"commandid":"k-6","outcome":"Deallocated"}`,
				[]command{{"k-6", "DELETE", "/orders/o9/lines/CHAIR", ""}},
			},
		} {
			for round := range 2 { // the second when much has happened since
				for at := range gateways {
					got := say(at, c.key, c.method, c.path, c.body)
					require.Equal(s, c.status, got.status, "%s, round %d, gateway %d: %s", c.key, round, at, got.body)
					require.Equal(s, c.want, got.body)
				}
			}
			for _, other := range c.others {
				for at := range gateways {
					got := say(at, other.key, other.method, other.path, other.body)
					require.Equal(s, 422, got.status, "%v at gateway %d: %s", other, at, got.body)
				}
			}
		}
		// What came of all that: one batch of 12, with nothing allocated.
		require.Eventually(s, func() bool {
			return s.ask(s.gateway, "GET", "/batches/CHAIR/b%2F1", "").body == `{"sku":"CHAIR","ref":"b/1","qty":12,"available":12,"eta":null}`
		}, within, look)
		require.Contains(s, s.ask(s.gateway, "GET", "/availability/CHAIR", "").body, `"version":5,"available":12`)
		require.Equal(s, 404, s.ask(s.gateway, "GET", "/allocations/o1", "").status)
		require.Contains(s, s.ask(s.gateway, "GET", "/commands/k-3", "").body, `"outcome":"OutOfStock"`)
	})
}

func TestManyCommandsInOneRequest(t *testing.T) {
	onKfake(t, func(s *site) {
		body := new(strings.Builder)
		fmt.Fprintln(body, `{"type":"CreateBatch","id":"many-0","ref":"b1","sku":"CHAIR","qty":500,"eta":null}`)
		for i := 1; i < 600; i++ {
			fmt.Fprintf(body, `{"type":"Allocate","id":"many-%[1]d","orderid":"o-%[1]d","sku":"CHAIR","qty":1}`+"\n", i)
		}
		for range 2 {
			got := s.ask(s.gateway, "POST", "/commands", body.String(), "Content-Type", "application/x-ndjson", "Prefer", "wait=10")
			require.Equal(s, 200, got.status)
			require.NotEmpty(s, got.header.Get("Lotline-Token"))
			lines := strings.Split(got.body, "\n")
			require.Len(s, lines, 600)
			require.Equal(s, `{"line":1,"status":201,"commandid":"many-0","outcome":"BatchCreated"}`, lines[0])
			require.Equal(s, `{"line":501,"status":201,"commandid":"many-500","outcome":"Allocated"}`, lines[500])
			require.Equal(s, `{"line":502,"status":200,"commandid":"many-501","outcome":"OutOfStock"}`, lines[501], "in order: the batch has 500")
		}
	})
}
