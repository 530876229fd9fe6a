//go:build integration

package allocator_test

import (
	"errors"
	"hash/crc32"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/lotline/lotline/services/allocator"
)

func oneSession(c *allocator.Config) { c.Sessions = 1 }

// transactionalIDs are those of the only session of the installation, which has its transactions in turn.
func (b *bench) transactionalIDs() [2]string {
	id := b.config.Kafka.TopicPrefix + ".allocator.test.0"
	return [2]string{id, id + "/2"}
}

// earlierLife makes a transaction of an id of the allocator's with an event on one partition, and ends it; and appends another
// event to another partition, which the transaction's markers do not reach: what a broker leaves behind that dies
// between noting the outcome and writing the markers, and forgets the rest of them.
func (b *bench) earlierLife(id string, outcome kgo.TransactionEndTry, ended, forgotten int32) {
	b.t.Helper()
	ctx := b.t.Context()
	client, err := kgo.NewClient(append(b.config.Kafka.Opts("earlier"), kgo.TransactionalID(id),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(b.t, err)
	defer client.Close()
	require.NoError(b.t, client.BeginTransaction())
	require.NoError(b.t, client.ProduceSync(ctx, &kgo.Record{Topic: b.topics.Events.Name, Partition: ended, Value: []byte("ended")}).FirstErr())
	producer, epoch, err := client.ProducerID(ctx)
	require.NoError(b.t, err)
	require.NoError(b.t, client.EndTransaction(ctx, outcome))

	// The broker takes a record for a transaction that its coordinator does not know of only without this check.
	const check = "transaction.partition.verification.enable"
	set := func(op kadm.IncrementalOp) {
		off := "false"
		answers, err := b.adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: check, Value: &off}})
		require.NoError(b.t, err)
		for _, a := range answers {
			require.NoError(b.t, a.Err)
		}
	}
	set(kadm.SetConfig)
	defer set(kadm.DeleteConfig)
	const transactional = 0x10
	record := kmsg.Record{Value: []byte("forgotten")}
	record.Length = int32(len(record.AppendTo(nil))) - 1
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: transactional, ProducerID: producer, ProducerEpoch: epoch,
		NumRecords: 1, Records: record.AppendTo(nil),
	}
	batch.Length = int32(len(batch.AppendTo(nil))) - 12
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = forgotten, batch.AppendTo(nil)
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = b.topics.Events.Name, append(rt.Partitions, rp)
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis, req.Topics = kmsg.StringPtr(id), -1, 5000, append(req.Topics, rt)
	before := kversion.Stable()
	before.SetMaxKeyVersion(int16(kmsg.Produce), 11) // from 12 on, a produce adds its partition to the transaction
	old, err := kgo.NewClient(append(b.config.Kafka.Opts("earlier"), kgo.MaxVersions(before))...)
	require.NoError(b.t, err)
	defer old.Close()
	require.Eventually(b.t, func() bool { // the broker hears of its configuration a little later
		resp, err := old.Request(ctx, req)
		if err == nil {
			err = kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
		}
		return err == nil
	}, waitMax, tick)
}

// A transaction ended, and the broker forgot the marker of one partition. What is there becomes what the transaction
// became, whatever the next one does, and hides nothing for ever.
func TestATransactionThatTheBrokerForgotToEndOnApacheKafka(t *testing.T) {
	for name, c := range map[string]struct {
		producer  int
		outcome   kgo.TransactionEndTry
		elsewhere bool // no later event comes to the partition
		want      []string
	}{
		"committed":                       {0, kgo.TryCommit, true, []string{"ended", "forgotten"}},
		"committed by the other producer": {1, kgo.TryCommit, true, []string{"ended", "forgotten"}},
		// The marker of the next commit would make it visible.
		"aborted": {0, kgo.TryAbort, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := onKafka(t)
			commands := b.orders("CHAIR", 3)
			b.send(commands...)
			partition := commands[0].Partition // of its events too: same key, same partitioner, as many partitions
			forgotten := partition
			if c.elsewhere {
				forgotten = (partition + 2) % 12
			}
			b.earlierLife(b.transactionalIDs()[c.producer], c.outcome, (partition+1)%12, forgotten)
			stop := b.start(oneSession)
			defer stop()
			var got []string
			events := 0
			for _, r := range b.records(b.topics.Events.Name, len(commands)+len(c.want)) {
				if len(r.Headers) > 0 {
					events++
				} else {
					got = append(got, string(r.Value))
				}
			}
			require.ElementsMatch(t, c.want, got)
			require.Equal(t, len(commands), events)
		})
	}
}

// The same happens to a running session: a connection to a broker is lost before the last transaction has its markers.
// The next one waits until the last is settled. (Kafka's answers are made up until the worker acts on them.)
func TestARunningSessionSettlesItsLastTransaction(t *testing.T) {
	b := onKfake(t)
	var armed, preparing, cut, lost, forgotten, added, mended atomic.Bool
	var id atomic.Value // of the producer that it happens to
	var producer, epoch atomic.Int64
	b.fake.ControlKey(int16(kmsg.DescribeTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		if asked := req.(*kmsg.DescribeTransactionsRequest).TransactionalIDs[0]; !preparing.Load() && !forgotten.Load() || asked != id.Load() {
			return nil, nil, false
		}
		st := kmsg.NewDescribeTransactionsResponseTransactionState()
		st.TransactionalID, st.State, st.ProducerID = id.Load().(string), "PrepareCommit", producer.Load()
		if forgotten.Load() {
			st.State, st.ProducerEpoch = "CompleteCommit", int16(epoch.Load())
		}
		resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		resp.TransactionStates = append(resp.TransactionStates, st)
		return resp, nil, true
	})
	b.fake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		if !cut.Load() {
			return nil, nil, false
		}
		// A broker takes a while to come back. By then every client has seen that it was lost, not only the first that
		// asked, which may be a reader of this test's.
		if lost.CompareAndSwap(false, true) {
			time.AfterFunc(400*time.Millisecond, func() { cut.Store(false); forgotten.Store(true) })
		}
		return nil, errors.New("the broker is lost"), true
	})
	const partition = 7
	b.fake.ControlKey(int16(kmsg.DescribeProducers), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		if !forgotten.Load() {
			return nil, nil, false
		}
		ap := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		ap.ProducerID, ap.CurrentTxnStartOffset = producer.Load(), 3
		rp := kmsg.NewDescribeProducersResponseTopicPartition()
		rp.Partition, rp.ActiveProducers = partition, append(rp.ActiveProducers, ap)
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic, rt.Partitions = b.topics.Events.Name, append(rt.Partitions, rp)
		resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	// How it is mended: the partition and the group's offsets, committed.
	b.fake.ControlKey(int16(kmsg.AddPartitionsToTxn), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		req := kreq.(*kmsg.AddPartitionsToTxnRequest)
		if !forgotten.Load() || len(req.Topics) != 1 {
			return nil, nil, false
		}
		if req.Topics[0].Topic != b.topics.Events.Name || len(req.Topics[0].Partitions) != 1 || req.Topics[0].Partitions[0] != partition {
			t.Errorf("mended %v", req.Topics)
		}
		preparing.Store(false)
		added.Store(true)
		return nil, nil, false
	})
	b.fake.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		end := req.(*kmsg.EndTxnRequest)
		if armed.CompareAndSwap(true, false) {
			id.Store(end.TransactionalID)
			producer.Store(end.ProducerID)
			epoch.Store(int64(end.ProducerEpoch))
			if end.Version >= 5 { // which raises it
				epoch.Add(1)
			}
			preparing.Store(true)
		}
		if added.Load() && forgotten.CompareAndSwap(true, false) {
			mended.Store(true)
			if !end.Commit {
				t.Error("a committed transaction was aborted when it was ended once more")
			}
		}
		return nil, nil, false
	})

	all := b.orders("CHAIR", 5)
	b.start(oneSession)
	b.send(all[:2]...)
	b.events(2)
	armed.Store(true)
	b.send(all[2:4]...)
	b.events(4) // published, and taken for one that still waits for its markers
	cut.Store(true)
	b.send(all[4:]...)
	b.check(len(all))
	require.True(t, mended.Load(), "the forgotten transaction was ended once more")
}

// Kafka is there and takes no records, for longer than a moment: readiness says so for as long.
func TestAKafkaThatTakesNothingIsNamed(t *testing.T) {
	b := onKfake(t)
	var away atomic.Bool
	b.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		if away.Load() && req.(*kmsg.ProduceRequest).TransactionID != nil {
			return nil, errors.New("cut"), true
		}
		return nil, nil, false
	})
	all := b.orders("CHAIR", 1)
	ready := b.startReady()
	away.Store(true)
	b.send(all...)
	require.Eventually(t, func() bool { return ready.says("events wait for Kafka") }, waitMax, tick)
	away.Store(false)
	b.check(len(all))
	require.Eventually(t, func() bool { return !ready.says("") }, waitMax, tick)
}

// The group is gone and the transactional id is there, as after a crash before the first commit. A worker that waited for
// the group would wait for itself.
func TestAGroupThatIsNotThereIsJoined(t *testing.T) {
	b := onKfake(t)
	all := b.orders("CHAIR", 3)
	b.send(all[:2]...)
	stop := b.start(oneSession)
	b.events(2)
	stop()
	var joined atomic.Bool
	b.fake.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		joined.Store(true)
		return nil, nil, false
	})
	b.fake.ControlKey(int16(kmsg.OffsetFetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		if joined.Load() {
			return nil, nil, false
		}
		req := kreq.(*kmsg.OffsetFetchRequest)
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.Groups {
			gone := kmsg.NewOffsetFetchResponseGroup()
			gone.Group, gone.ErrorCode = g.Group, kerr.GroupIDNotFound.Code
			resp.Groups = append(resp.Groups, gone)
		}
		return resp, nil, true
	})
	b.start(oneSession)
	b.send(all[2:]...)
	b.check(len(all))
	require.True(t, joined.Load())
}
