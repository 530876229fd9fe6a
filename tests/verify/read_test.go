//go:build integration

package verify

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/tests/servers"
)

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(m.Run())
}

// The judge holds a whole topic at once. The bound on what clients of one process inflate, which takes memory back only
// when it is let go, made it wait for ever on topics of more than that.
func TestTopicsLargerThanAClientMayInflateAreRead(t *testing.T) {
	const records, size = 200, 900_000 // 180 MB, 128 MiB may be inflated
	s, err := servers.StartKfake(t.Context(), servers.Options{DataDir: t.TempDir() + "/kfake"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	config := kafkaclient.Config{Brokers: []string{s.Addr}, TopicPrefix: "large"}
	client, err := kgo.NewClient(append(config.Opts("test"), kgo.DefaultProduceTopic("large"), kgo.ProducerBatchCompression(kgo.GzipCompression()))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	_, err = kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, "large")
	require.NoError(t, err)
	for range records {
		client.Produce(t.Context(), &kgo.Record{Value: make([]byte, size)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	require.NoError(t, client.Flush(t.Context()))
	reading, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	read, err := ReadTopic(reading, config, "large")
	require.NoError(t, err)
	require.Len(t, read, records)
}
