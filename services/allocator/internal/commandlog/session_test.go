package commandlog

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/topics"
)

// A batch with a wrong checksum, as a disk may have it, comes with the records before it. They are decided first: halted
// at once, the partition would be left where they begin, and to skip the batch would skip them too.
func TestTheRecordsBeforeAnUnreadableBatchAreNotHalted(t *testing.T) {
	kafka, err := kgo.NewGroupTransactSession(kgo.ConsumerGroup("g"), kgo.TransactionalID("t"), kgo.SeedBrokers("127.0.0.1:1"))
	require.NoError(t, err)
	defer kafka.Close()
	set := topics.Declared("t")
	s := &session{
		Worker: New(Config{Topics: set}, nil, nil, nil, &admin.Health{}, NewMetrics(prometheus.NewRegistry()), noop.NewTracerProvider().Tracer(""), slog.New(slog.DiscardHandler)),
		kafka:  kafka, parts: map[int32]*part{3: {}}, paused: map[int32]bool{},
	}
	fetched := func(records ...*kgo.Record) kgo.Fetches {
		return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: set.Commands.Name, Partitions: []kgo.FetchPartition{
			{Partition: 3, Records: records, Err: errors.New("encoded crc 1 does not match calculated crc 2")},
		}}}}}
	}
	s.fetchErrors(t.Context(), fetched(&kgo.Record{Offset: 5}))
	require.Empty(t, s.suspects())
	s.fetchErrors(t.Context(), fetched())
	require.Equal(t, []int32{3}, s.suspects())
}
