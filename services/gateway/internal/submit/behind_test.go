package submit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
)

// behindASlowOne are commands of which nobody decides the first.
func behindASlowOne() []Request {
	requests := []Request{{Command: command("SLOW")}}
	for i := range 60 {
		requests = append(requests, Request{Command: command(fmt.Sprint("QUICK-", i))})
	}
	return requests
}

// Kafka has all of them at once, and the first is waited for until all time is over: what was acknowledged meanwhile was.
func TestAcknowledgedBehindOneThatIsNotDecided(t *testing.T) {
	r := newRigWith(t, 500*time.Millisecond)
	for i, result := range r.Submit(t.Context(), time.Second, behindASlowOne()...) {
		require.NoError(t, result.Err, i)
	}
	require.EqualValues(t, 61, r.inKafka(t))
}

// And what was decided meanwhile was.
func TestDecidedBehindOneThatIsNotDecided(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	r.each(t, func(client *kgo.Client, record *kgo.Record) {
		if string(record.Key) == "SLOW" {
			return
		}
		envelope, _ := cloudevents.Parse(record.Headers)
		client.Produce(context.Background(), eventRecord(&schemas.Event{
			Type: schemas.EventAllocated, SKU: string(record.Key), CommandID: envelope.ID, CommandSource: Source, Last: true, Qty: 7,
		}), nil)
	})
	results := r.Submit(t.Context(), 3*time.Second, behindASlowOne()...)
	require.Nil(t, results[0].Outcome)
	for i, result := range results[1:] {
		require.NoError(t, result.Err, i)
		require.NotNil(t, result.Outcome, i)
	}
}
