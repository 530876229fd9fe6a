package kafkaclient_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestValidate(t *testing.T) {
	good := kafkaclient.Config{Brokers: []string{"127.0.0.1:9092", "[::1]:9092", "kafka-1.example:9092"}, TopicPrefix: "eu.lotline-2"}
	require.NoError(t, good.Validate())

	for name, c := range map[string]struct {
		change func(*kafkaclient.Config)
		want   string
	}{
		"no broker":       {func(c *kafkaclient.Config) { c.Brokers = nil }, "no Kafka broker is given"},
		"no port":         {func(c *kafkaclient.Config) { c.Brokers = []string{"kafka"} }, `"kafka" is not an address of the form host:port`},
		"no host":         {func(c *kafkaclient.Config) { c.Brokers = []string{":9092"} }, `":9092" is not an address`},
		"a space":         {func(c *kafkaclient.Config) { c.Brokers = []string{"a:9092", " kafka-2:9092"} }, `" kafka-2:9092" has a space in it: leave out`},
		"empty prefix":    {func(c *kafkaclient.Config) { c.TopicPrefix = "" }, "the topic prefix"},
		"illegal prefix":  {func(c *kafkaclient.Config) { c.TopicPrefix = "a b" }, `"a b"`},
		"dots as prefix":  {func(c *kafkaclient.Config) { c.TopicPrefix = ".." }, `".."`},
		"too long prefix": {func(c *kafkaclient.Config) { c.TopicPrefix = strings.Repeat("x", 201) }, "1 to 200"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			c.change(&bad)
			require.ErrorContains(t, bad.Validate(), c.want)
		})
	}

	all := kafkaclient.Config{Brokers: []string{"x"}}.Validate()
	require.ErrorContains(t, all, `"x"`)
	require.ErrorContains(t, all, "topic prefix")
}

func TestAClientOfOptsReachesTheBroker(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	require.NoError(t, err)
	defer cluster.Close()
	client, err := kgo.NewClient(append(kafkaclient.Config{Brokers: cluster.ListenAddrs()}.Opts("test"),
		kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(t, err)
	defer client.Close()

	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr())
	fetches := client.PollFetches(t.Context())
	require.NoError(t, fetches.Err())
	require.Equal(t, "v", string(fetches.Records()[0].Value))

	err = client.ProduceSync(t.Context(), &kgo.Record{Topic: "missing", Value: []byte("v")}).FirstErr()
	require.ErrorIs(t, err, kerr.UnknownTopicOrPartition, "topics are not created by using them")
}

// A batch may not take the process's memory: 32 MiB of zeros are a few KiB on
// the wire.
func TestABatchThatInflatesTooFarIsRefused(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	require.NoError(t, err)
	defer cluster.Close()
	client, err := kgo.NewClient(append(kafkaclient.Config{Brokers: cluster.ListenAddrs()}.Opts("test"),
		kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.ProducerBatchMaxBytes(64<<20), kgo.BrokerMaxWriteBytes(100<<20),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()))...)
	require.NoError(t, err)
	defer client.Close()

	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, 32<<20)}).FirstErr())
	fetches := client.PollFetches(t.Context())
	require.ErrorAs(t, fetches.Err(), new(*kgo.ErrDecompressTooLarge))
	require.Empty(t, fetches.Records())
}

func TestWarningsOfTheClientAreLogged(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&out, nil)))
	defer slog.SetDefault(before)

	client, err := kgo.NewClient(append(kafkaclient.Config{Brokers: []string{"127.0.0.1:1"}}.Opts("test"),
		kgo.RetryTimeout(300*time.Millisecond))...)
	require.NoError(t, err)
	require.Error(t, client.Ping(t.Context()))
	client.Close()
	require.Contains(t, out.String(), `"level":"WARN"`)
	require.Contains(t, out.String(), `"component":"kafka","client":"test"`)
	require.NotContains(t, out.String(), `"level":"INFO"`)
}
