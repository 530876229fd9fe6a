//go:build integration

package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

const (
	maxAge     = time.Second
	stale      = time.Second
	slack      = 300 * time.Millisecond // of a busy machine, and of a cache that fetches while it answers
	inFrontFor = 5 * time.Second
)

// projectedAt is a version of a SKU, and when it was seen to be answered by the gateway itself.
type projectedAt struct {
	version uint64
	at      time.Time
}

// An HTTP cache in front answers most questions, none older than it may, and none older than its token.
func TestVarnishInFront(t *testing.T) {
	onKfake(t, func(s *site) {
		varnish, err := servers.StartVarnish(s.Context(), servers.Options{DataDir: filepath.Join(s.TempDir(), "varnish")}, strings.TrimPrefix(s.gateway, "http://"))
		require.NoError(s, err)
		s.Cleanup(func() { require.NoError(s, varnish.Stop()) })
		front := "http://" + varnish.Addr
		told := s.ask(front, "POST", "/batches", `{"ref":"b1","sku":"CHAIR","qty":1000,"eta":null}`, "Prefer", "wait=10")
		require.Equal(s, 201, told.status, told.body)
		require.Equal(s, 200, s.ask(front, "GET", "/availability/CHAIR", "", "Lotline-After", told.header.Get("Lotline-Token"), "Prefer", "wait=10").status)

		var mu sync.Mutex
		var known []projectedAt
		var group errgroup.Group
		end := time.Now().Add(inFrontFor)
		group.Go(func() error { // who changes it, and looks with a token, through the cache and past it
			for i := 0; time.Now().Before(end); i++ {
				told := s.ask(front, "PATCH", "/batches/CHAIR/b1", fmt.Sprintf(`{"qty":%d}`, 2000+i), "Prefer", "wait=10")
				token := told.header.Get("Lotline-Token")
				if told.status != 200 || token == "" {
					return fmt.Errorf("change %d: %d %s", i, told.status, told.body)
				}
				straight := s.ask(s.gateway, "GET", "/availability/CHAIR?after="+url.QueryEscape(token), "", "Prefer", "wait=10")
				seen := versionOf(straight.body)
				mu.Lock()
				known = append(known, projectedAt{seen, time.Now()})
				mu.Unlock()
				for _, got := range []answer{
					s.ask(front, "GET", "/availability/CHAIR", "", "Lotline-After", token, "Prefer", "wait=10"),
					s.ask(front, "GET", "/availability/CHAIR?after="+url.QueryEscape(token), "", "Prefer", "wait=10"),
				} {
					if version := versionOf(got.body); got.status != 200 || version < seen {
						return fmt.Errorf("with the token of version %d the cache answers %d with version %d: %s", seen, got.status, version, got.body)
					}
				}
			}
			return nil
		})
		counts := make([]struct{ asked, hits int }, 4)
		oldest := make([]time.Duration, len(counts))
		for reader := range counts {
			group.Go(func() error {
				for time.Now().Before(end) {
					began := time.Now()
					got := s.ask(front, "GET", "/availability/CHAIR", "")
					version := versionOf(got.body)
					if got.status != 200 {
						return fmt.Errorf("%d: %s", got.status, got.body)
					}
					counts[reader].asked++
					if len(strings.Fields(got.header.Get("X-Varnish"))) == 2 { // its own id, and that of the request that filled it
						counts[reader].hits++
					}
					mu.Lock()
					var since time.Time // when it was first known that there was something newer
					for _, k := range known {
						if k.version > version {
							since = k.at
							break
						}
					}
					mu.Unlock()
					if !since.IsZero() {
						oldest[reader] = max(oldest[reader], began.Sub(since))
					}
				}
				return nil
			})
		}
		require.NoError(s, group.Wait())
		asked, hits, age := 0, 0, time.Duration(0)
		for i, c := range counts {
			asked, hits, age = asked+c.asked, hits+c.hits, max(age, oldest[i])
		}
		s.Logf("%d questions, %.1f %% answered by the cache; %d changes; the oldest answer was overtaken %s before it was asked for",
			asked, 100*float64(hits)/float64(asked), len(known), age.Round(time.Millisecond))
		require.Greater(s, len(known), 5, "there was something to be stale about")
		require.Greater(s, float64(hits)/float64(asked), 0.9)
		require.Positive(s, age, "nothing was ever stale: the cache was not used")
		require.Less(s, age, maxAge+stale+slack)
	}, func(c *stack.Config) { c.Gateway.HTTPCacheMaxAge, c.Gateway.HTTPCacheStale = maxAge, stale })
}

func versionOf(body string) uint64 {
	var left struct{ Version uint64 }
	_ = json.Unmarshal([]byte(body), &left) // 0: it is none, and older than all
	return left.Version
}
