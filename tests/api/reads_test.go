//go:build integration

package api

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

func TestNoAnswerIsOlderThanItsToken(t *testing.T) {
	onKfake(t, func(s *site) {
		other := s.another()
		got := s.ask(s.gateway, "POST", "/batches", `{"ref":"b1","sku":"CHAIR","qty":1000,"eta":null}`, "Prefer", "wait=10")
		require.Equal(s, 201, got.status, got.body)
		early := make([]int, 8) // questions without a token that were too early
		var group errgroup.Group
		for client := range early {
			group.Go(func() error {
				for i := range 8 {
					order := fmt.Sprintf("o-%d-%d", client, i)
					got := s.ask(s.gateway, "POST", "/orders/"+order+"/lines", `{"sku":"CHAIR","qty":1}`, "Prefer", "wait=10")
					token := got.header.Get("Lotline-Token")
					if got.status != 201 || token == "" {
						return fmt.Errorf("%s: %d %s", order, got.status, got.body)
					}
					if s.ask(other, "GET", got.header.Get("Location"), "").status == 404 {
						early[client]++
					}
					for _, base := range []string{s.gateway, other} {
						for _, question := range []string{got.header.Get("Location"), "/commands/" + commandID(s.T, got.body), "/allocations/" + order} {
							if seen := s.ask(base, "GET", question, "", "Lotline-After", token, "Prefer", "wait=10"); seen.status != 200 {
								return fmt.Errorf("%s after its token: %d %s", question, seen.status, seen.body)
							}
						}
					}
				}
				return nil
			})
		}
		require.NoError(s, group.Wait())
		sum := 0
		for _, n := range early {
			sum += n
		}
		require.Positive(s, sum, "without a token nothing was ever too early: the token was not needed here, and this proves nothing")
		s.Logf("of 64 questions without a token %d were too early, of 384 with one none", sum)
		require.Contains(s, s.ask(s.gateway, "GET", "/availability/CHAIR", "").body, `"available":936`)

		// A token of what is yet to come, as another gateway could give out: bounded, and no answer.
		start := time.Now()
		got = s.ask(s.gateway, "GET", "/availability/CHAIR?after=AQCAgICAAQ", "", "Prefer", "wait=1")
		require.Equal(s, 503, got.status, got.body)
		require.Equal(s, "1", got.header.Get("Retry-After"))
		require.WithinRange(s, time.Now(), start.Add(time.Second), start.Add(3*time.Second))
	})
}

func commandID(t require.TestingT, body string) string {
	var told struct {
		CommandID string `json:"commandid"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &told))
	return told.CommandID
}
