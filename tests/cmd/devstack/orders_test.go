package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
)

// TestAShopGoesOn: whoever looks on sees all kinds of commands, none of them malformed, and the shop neither runs out nor
// drowns in stock.
func TestAShopGoesOn(t *testing.T) {
	shop := newShopper(time.UnixMilli(1))
	kinds, units := map[schemas.CommandType]int{}, map[schemas.CommandType]int32{}
	for range 3000 {
		for _, command := range shop.order(time.Date(2031, 1, 2, 0, 0, 0, 0, time.UTC)) {
			again, err := schemas.DecodeCommand(command.Type.CEType(), schemas.ContentTypeJSON, schemas.AppendCommand(nil, &command))
			require.NoError(t, err)
			require.Equal(t, command, again)
			kinds[command.Type]++
			units[command.Type] += command.Qty
		}
	}
	require.Len(t, kinds, 4)
	require.InEpsilon(t, units[schemas.CommandAllocate], units[schemas.CommandCreateBatch], 0.2)
	require.LessOrEqual(t, len(shop.lines), linesRemembered)
}

func TestOrdersComeUntilTheStop(t *testing.T) {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "commands"))
	require.NoError(t, err)
	defer kafka.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.DefaultProduceTopic("commands"), kgo.ConsumeTopics("commands"))
	require.NoError(t, err)
	defer client.Close()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- orders(ctx, client, ordersPerSecondMax) }()
	ids := map[string]bool{}
	for len(ids) < 100 {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			envelope, command, err := cloudevents.Decode(r.Headers, r.Value, schemas.DecodeCommand)
			require.NoError(t, err)
			require.Equal(t, command.SKU, string(r.Key))
			require.NotContains(t, ids, envelope.ID)
			ids[envelope.ID] = true
		})
	}
	stop()
	require.NoError(t, <-ended)
}

func TestHowManyOrdersCanBeMadeUp(t *testing.T) {
	require.NoError(t, (&config{OrdersPerSecond: ordersPerSecondMax}).Validate())
	require.ErrorContains(t, (&config{OrdersPerSecond: ordersPerSecondMax + 1}).Validate(), "--orders-per-second is 1001")
	require.ErrorContains(t, (&config{OrdersPerSecond: -1}).Validate(), "--orders-per-second is -1")
}
