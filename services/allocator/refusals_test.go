//go:build integration

package allocator_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/schemas"
)

// A record that the broker refuses must turn the transaction into an abort: committing would move the offset past
// events that nobody can see.
func TestProduceFailureAborts(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 5)...)
	var refused atomic.Int32
	b.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl() // it may run for several requests at once, so it counts for itself
		produce := req.(*kmsg.ProduceRequest)
		if produce.TransactionID == nil || refused.Swap(1) == 1 {
			return nil, nil, false
		}
		return refuse(produce), nil, true
	})
	b.start()
	b.check(6)
	require.EqualValues(t, 1, refused.Load(), "the fault took effect")
}

// A broker that refuses a record for good must not be asked in a hot loop, and readiness says what is wrong.
func TestARefusedRecordIsTriedWithPauses(t *testing.T) {
	b := onKfake(t)
	b.send(b.orders("CHAIR", 5)...)
	var refused atomic.Int32
	b.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		produce := req.(*kmsg.ProduceRequest)
		if produce.TransactionID == nil {
			return nil, nil, false
		}
		refused.Add(1)
		return refuse(produce), nil, true
	})
	ready := b.startReady()
	require.Eventually(t, func() bool { return ready.says("MESSAGE_TOO_LARGE") }, waitMax, tick)
	before := refused.Load()
	time.Sleep(2 * time.Second)
	require.Less(t, refused.Load()-before, int32(20), "tries in two seconds")
}

// refuse is the answer to a produce request of which every partition is too large.
func refuse(produce *kmsg.ProduceRequest) kmsg.Response {
	answer := produce.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range produce.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = partition.Partition, kerr.MessageTooLarge.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		answer.Topics = append(answer.Topics, rt)
	}
	return answer
}

// Rows that contradict each other are no outage: the partition stops by name instead of trying for ever, and the
// others go on.
func TestContradictoryRowsHaltThePartition(t *testing.T) {
	b := onKfake(t)
	sent := b.orders("CHAIR", 2)
	b.send(sent...)
	stop := b.start()
	b.check(3)
	stop()
	conn := b.postgres()
	_, err := conn.Exec(t.Context(), `DELETE FROM batches`)
	require.NoError(t, err)
	ready := b.startReady()
	b.send(b.command("undo", schemas.Command{Type: schemas.CommandDeallocate, SKU: "CHAIR", OrderID: name("CHAIR", 0)}))
	require.Eventually(t, func() bool { return ready.says("contradict") }, waitMax, tick)
	b.send(b.orders(b.otherPartition(sent[0].Partition), 2)...)
	require.Len(t, b.events(6), 6, "the other partitions go on")
}
