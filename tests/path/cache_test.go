//go:build integration

package path

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/services/gateway"
	"github.com/lotline/lotline/services/projector"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

// boot runs a service until the test ends or it is stopped.
func boot[C any](t *testing.T, run func(context.Context, C) error, config C) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx, config); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// The projector stands still, so that the read model is old; what the gateway answers is not.
func TestAvailabilityWhileTheProjectorStandsStill(t *testing.T) {
	isolation.OnEachKafka(t, func(t *testing.T, on stack.Servers) {
		config, err := stack.Configure(on)
		require.NoError(t, err)
		require.NoError(t, stack.Prepare(t.Context(), &config))
		boot(t, allocator.Run, config.Allocator)
		pause := boot(t, projector.Run, config.Projector)
		boot(t, gateway.Run, config.Gateway)
		p := &pipeline{
			T: t, on: on, topics: topics.Declared(on.TopicPrefix), gateway: "http://" + config.Gateway.HTTPAddr,
			clickhouse: "http://" + isolation.Setting(t, "LOTLINE_TEST_CLICKHOUSE_HTTP"),
		}
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.NoError(c, stack.Probe(t.Context(), p.gateway+"/readyz"))
		}, answerWithin, lookEvery)
		for _, sku := range []string{"CHAIR", "LAMP"} {
			status, body := p.post("/add_batch", `{"ref":"b-`+sku+`","sku":"`+sku+`","qty":10,"eta":null}`)
			require.Equal(t, http.StatusCreated, status, body)
		}
		p.answers("/availability/CHAIR", `"version":1`)
		p.selects("SELECT count() FROM skus FINAL WHERE version = 1", "2")
		pause()

		for order := range 2 {
			left := 7 - 3*order
			for _, sku := range []string{"CHAIR", "LAMP"} { // nobody has asked for lamps before
				p.allocated(fmt.Sprintf(`{"orderid":"o-%d","sku":"%s","qty":3}`, order, sku))
				status, body := get(t, p.gateway+"/availability/"+sku) // once: whoever was told of the outcome sees it
				require.Equal(t, http.StatusOK, status, body)
				require.JSONEq(t, fmt.Sprintf(`{"sku":"%[1]s","version":%[2]d,"available":%[3]d,
					"batches":[{"ref":"b-%[1]s","qty":10,"available":%[3]d,"eta":null}]}`, sku, order+2, left), body)
			}
		}
		p.selects("SELECT max(version) FROM skus FINAL", "1")
		boot(t, projector.Run, config.Projector)
		p.selects("SELECT min(version) FROM skus FINAL", "3")
		p.answers("/availability?sku=CHAIR&sku=LAMP", `"sku":"CHAIR","version":3`, `"sku":"LAMP","version":3`)
	})
}

// allocated sends an order line over HTTP and waits until it has a batch.
func (p *pipeline) allocated(line string) {
	p.Helper()
	request, err := http.NewRequestWithContext(p.Context(), http.MethodPost, p.gateway+"/allocate", strings.NewReader(line))
	require.NoError(p, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Prefer", "wait=10")
	response, err := http.DefaultClient.Do(request)
	require.NoError(p, err)
	status, body := read(p, response)
	require.Equal(p, http.StatusAccepted, status, body)
	require.Contains(p, body, `"outcome":"Allocated"`)
}
