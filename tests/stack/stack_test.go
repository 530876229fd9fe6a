//go:build integration

package stack_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
)

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(m.Run())
}

func TestAStackAllocatesAndStops(t *testing.T) {
	isolation.OnEachKafka(t, func(t *testing.T, on stack.Servers) {
		config, err := stack.Configure(on)
		require.NoError(t, err)
		s, err := stack.Start(t.Context(), config)
		require.NoError(t, err)
		base := "http://" + config.Gateway.HTTPAddr
		require.Equal(t, http.StatusCreated, post(t, base+"/add_batch", `{"ref":"b-1","sku":"RED-CHAIR","qty":10,"eta":null}`))
		require.Equal(t, http.StatusAccepted, post(t, base+"/allocate", `{"orderid":"o-1","sku":"RED-CHAIR","qty":3}`))
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.NoError(c, stack.Probe(t.Context(), base+"/allocations/o-1"))
		}, 20*time.Second, 50*time.Millisecond)
		require.NoError(t, s.Stop())

		// What is prepared already is left alone, and a second life goes on.
		s, err = stack.Start(t.Context(), config)
		require.NoError(t, err)
		require.NoError(t, stack.Probe(t.Context(), base+"/allocations/o-1"))
		require.NoError(t, s.Stop())
	})
}

func TestAServiceThatFailsEndsTheStack(t *testing.T) {
	config, err := stack.Configure(stack.Servers{Kafka: []string{"127.0.0.1:1"}, TopicPrefix: "x", Replication: 1})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = stack.Start(ctx, config)
	require.ErrorContains(t, err, "compare the topics")
}

func post(t *testing.T, address, body string) int {
	t.Helper()
	response, err := http.Post(address, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}
