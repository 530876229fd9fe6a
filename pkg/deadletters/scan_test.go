package deadletters

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/pkg/kafkaclient"
)

// A command that inflates to just what an allocator can read is a dead letter for its content, and as that it has headers beside it: who
// reads dead letters can read it, and those behind it.
func TestTheLargestDeadLetterHidesNoOther(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "commands", "dlq"))
	require.NoError(t, err)
	defer cluster.Close()
	opts := kafkaclient.Config{Brokers: cluster.ListenAddrs()}.Opts("test")
	client, err := kgo.NewClient(append(opts[:len(opts):len(opts)],
		kgo.ProducerBatchMaxBytes(16<<20+64<<10), // as an allocator has it
		kgo.ConsumeTopics("commands"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(t, err)
	defer client.Close()
	largest := make([]byte, 16<<20-100)
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "commands", Value: largest}).FirstErr())
	fetches := client.PollFetches(t.Context())
	require.NoError(t, fetches.Err())
	require.Equal(t, 1, fetches.NumRecords(), "an allocator can read it")

	for offset, value := range [][]byte{[]byte("small"), largest, []byte("small")} {
		letter := &kgo.Record{Topic: "dlq", Value: value, Headers: []kgo.RecordHeader{
			{Key: headerReason, Value: []byte("it has no ce_type")},
			{Key: headerTopic, Value: []byte("commands")},
			{Key: headerPartition, Value: []byte("0")},
			{Key: headerOffset, Value: []byte{'0' + byte(offset)}},
			{Key: headerTimestamp, Value: []byte(time.Now().UTC().Format(time.RFC3339Nano))},
		}}
		require.NoError(t, client.ProduceSync(t.Context(), letter).FirstErr())
	}
	var sizes []int
	require.NoError(t, Topic{Name: "dlq", Commands: "commands", Opts: opts}.Walk(t.Context(), Filter{}, func(l *Letter) error {
		sizes = append(sizes, len(l.Value))
		return nil
	}, nil))
	require.Equal(t, []int{5, len(largest), 5}, sizes)
}

// A walk begins while an allocator's transaction is open, which is then aborted, as after its death: of what was last, nothing is read.
func TestWhatWasLastIsAborted(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "commands", "dlq"))
	require.NoError(t, err)
	defer cluster.Close()
	opts := kafkaclient.Config{Brokers: cluster.ListenAddrs()}.Opts("test")
	client, err := kgo.NewClient(append(opts[:len(opts):len(opts)], kgo.TransactionalID("allocator"))...)
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.BeginTransaction())
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "dlq", Value: []byte("aborted")}).FirstErr())
	fetched := make(chan struct{})
	var first sync.Once
	cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		first.Do(func() { close(fetched) })
		return nil, nil, false
	})
	walked := make(chan error, 1)
	go func() {
		walked <- Topic{Name: "dlq", Commands: "commands", Opts: opts}.Walk(t.Context(), Filter{}, func(*Letter) error { return nil }, nil)
	}()
	<-fetched // it knows the end that it reads to
	require.NoError(t, client.EndTransaction(t.Context(), kgo.TryAbort))
	select {
	case err := <-walked:
		require.NoError(t, err)
	case <-time.After(stuckMax / 2):
		require.Fail(t, "the walk goes on")
	}
}
