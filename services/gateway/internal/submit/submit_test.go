package submit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

func TestRecord(t *testing.T) {
	r := newRig(t)
	receipt, err := r.one(t.Context(), command("CHAIR"), 0)
	require.NoError(t, err)
	require.Nil(t, receipt.Outcome)
	require.Equal(t, uuid.Version(7), uuid.MustParse(receipt.CommandID).Version())

	consumer, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumeTopics(commands),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer consumer.Close()
	records := consumer.PollFetches(t.Context()).Records()
	require.Len(t, records, 1)
	require.Equal(t, "CHAIR", string(records[0].Key))
	require.Equal(t, `{"orderid":"o1","sku":"CHAIR","qty":7}`, string(records[0].Value))
	envelope, err := cloudevents.Parse(records[0].Headers)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), envelope.Time, time.Minute)
	envelope.Time = time.Time{}
	require.Equal(t, cloudevents.Envelope{
		ID: receipt.CommandID, Source: "/lotline/gateway", Type: "lotline.command.v1.Allocate", ContentType: "application/json",
	}, envelope)
}

func TestEveryWaiterHearsOfItsOutcome(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	r.allocate(t)
	var group errgroup.Group
	for i := range 50 {
		group.Go(func() error {
			for j := range 20 {
				sku := fmt.Sprintf("sku-%d-%d", i, j)
				receipt, err := r.one(t.Context(), command(sku), 10*time.Second)
				if err != nil {
					return err
				}
				if e := receipt.Outcome; e == nil || e.Type != schemas.EventOutOfStock || e.SKU != sku || e.CommandID != receipt.CommandID {
					return fmt.Errorf("the outcome of %s is %+v", sku, e)
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.True(t, r.waiters.none(), "nobody is left in the books")
}

func TestOutcomeBeforeTheAcknowledgement(t *testing.T) {
	r := newRig(t)
	// The broker never answers the producer, but the command is in the log.
	r.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		r.waiters.mu.Lock()
		ids := make([]string, 0, 1)
		for id := range r.waiters.waiting {
			ids = append(ids, id)
		}
		r.waiters.mu.Unlock()
		for _, id := range ids {
			r.waiters.wake(Outcome{Event: schemas.Event{Type: schemas.EventAllocated, CommandID: id}})
		}
		return nil, fmt.Errorf("cut off"), true
	})
	receipt, err := r.one(t.Context(), command("CHAIR"), time.Minute)
	require.NoError(t, err)
	require.Equal(t, schemas.EventAllocated, receipt.Outcome.Type)
}

func TestPendingWhenNobodyDecides(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	start := time.Now()
	receipt, err := r.one(t.Context(), command("CHAIR"), 200*time.Millisecond)
	require.NoError(t, err)
	require.Nil(t, receipt.Outcome)
	require.NotEmpty(t, receipt.CommandID)
	require.GreaterOrEqual(t, time.Since(start), 200*time.Millisecond)
	require.True(t, r.waiters.none())
}

func TestKafkaAway(t *testing.T) {
	t.Run("gone", func(t *testing.T) {
		r := newRigWith(t, ackWait)
		_, err := r.one(t.Context(), command("CHAIR"), 0)
		require.NoError(t, err)
		r.cluster.Close()
		requireUnacknowledged(t, r)
	})
	t.Run("never there", func(t *testing.T) {
		r := newRigWith(t, ackWait)
		r.cluster.Close()
		requireUnacknowledged(t, r)
	})
	t.Run("silent", func(t *testing.T) {
		r := newRigWith(t, ackWait)
		silence := make(chan struct{})
		defer close(silence)
		r.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			r.cluster.SleepControl(func() { <-silence })
			return nil, nil, false
		})
		requireUnacknowledged(t, r)
	})
	t.Run("no topic", func(t *testing.T) {
		r := newRigWith(t, ackWait)
		r.Submitter = New(r.client, "none", ackWait, r.waiters, r.past, r.stop)
		requireUnacknowledged(t, r)
	})
}

// Kafka's client gives nothing up before a second has passed: nobody is to be told of a failure that then does not happen.
func TestWhatWasGivenUpIsNotSentLater(t *testing.T) {
	var buffered lastBuffered
	r := newRigWith(t, 100*time.Millisecond, kgo.WithHooks(&buffered))
	var ready atomic.Bool
	r.cluster.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		answer := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		answer.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return answer, nil, !ready.Load()
	})
	_, err := r.one(t.Context(), command("CHAIR"), 0)
	require.ErrorIs(t, err, ErrUnacknowledged)
	require.Error(t, buffered.record.Context.Err(), "it can be sent until its own time is noticed to be over")
	ready.Store(true)
	require.Zero(t, r.inKafka(t))
}

type lastBuffered struct{ record *kgo.Record }

func (b *lastBuffered) OnProduceRecordBuffered(r *kgo.Record) { b.record = r }

func requireUnacknowledged(t *testing.T, r *rig) {
	t.Helper()
	start := time.Now()
	receipt, err := r.one(t.Context(), command("CHAIR"), time.Minute)
	require.ErrorIs(t, err, ErrUnacknowledged)
	require.NotEmpty(t, receipt.CommandID, "it may have arrived: the client can ask")
	require.Less(t, time.Since(start), ackWait+500*time.Millisecond)
	require.True(t, r.waiters.none())
}

func TestCommandsTopicMadeAnew(t *testing.T) {
	r := newRigWith(t, ackWait)
	_, err := r.one(t.Context(), command("CHAIR"), 0)
	require.NoError(t, err)
	admin := kadm.NewClient(r.client)
	_, err = admin.DeleteTopic(t.Context(), commands)
	require.NoError(t, err)
	_, err = admin.CreateTopic(t.Context(), 3, 1, nil, commands)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err = r.one(t.Context(), command("CHAIR"), 0)
		return err == nil
	}, 15*time.Second, 100*time.Millisecond)
}

func TestClientLeaves(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.one(ctx, command("CHAIR"), time.Minute)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, r.waiters.none())
}

func TestStopAnswersThoseWhoWait(t *testing.T) {
	r := newRig(t)
	r.follow(t)
	var group errgroup.Group
	var submitted sync.WaitGroup
	for range 10 {
		submitted.Add(1)
		group.Go(func() error {
			submitted.Done()
			receipt, err := r.one(t.Context(), command("CHAIR"), time.Minute)
			if err == nil && receipt.Outcome != nil {
				err = fmt.Errorf("unexpected outcome %v", receipt.Outcome)
			}
			return err
		})
	}
	submitted.Wait()
	start := time.Now()
	close(r.stop)
	require.NoError(t, group.Wait())
	require.Less(t, time.Since(start), patience)
}

func TestAcknowledgedSaysWhereACommandIs(t *testing.T) {
	r := newRig(t)
	type where struct {
		id, topic string
		offset    int64
	}
	told := make(chan where, 10)
	r.Acknowledged = func(id string, record *kgo.Record) { told <- where{id, record.Topic, record.Offset} }
	for offset := range int64(2) {
		receipt, err := r.one(t.Context(), command("CHAIR"), 0)
		require.NoError(t, err)
		require.Equal(t, where{receipt.CommandID, commands, offset}, <-told)
	}
	r.topic = "none"
	_, err := r.one(t.Context(), command("CHAIR"), 0)
	require.Error(t, err)
	require.Empty(t, told, "what Kafka did not take is nowhere")
}
