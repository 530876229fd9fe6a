package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// StartKafka starts one Apache Kafka broker, which is its own KRaft controller, and waits until it answers. Topics are
// not created by use.
func StartKafka(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	return startKafka(ctx, o, plainProperties(o), pingKafka(local(o.Port)))
}

// startKafka starts a broker with the given server.properties, formatted with more arguments.
func startKafka(ctx context.Context, o Options, settings string, ready func(context.Context) error, formatting ...string) (*Server, error) {
	if err := kafkaJars.CheckTools(); err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	cache, err := kafkaJars.Dir(ctx)
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	if err := writeEmbedded("kafka/log4j2.properties", o.DataDir); err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	properties := filepath.Join(o.DataDir, "server.properties")
	if err := os.WriteFile(properties, []byte(settings), 0o600); err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	java := func(ctx context.Context, class string, args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, "java", append(append(KafkaJVM(o.Long), "-Dlog4j2.configurationFile="+filepath.Join(o.DataDir, "log4j2.properties"), "-cp", filepath.Join(cache, "libs", "*"), class), args...)...)
	}
	// The cluster's id is any base64 of 16 bytes; a directory that has one already is left alone.
	format := java(ctx, "kafka.tools.StorageTool", append([]string{"format", "--ignore-formatted", "-t", "bG90bGluZS10ZXN0cy0wMQ", "-c", properties}, formatting...)...)
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("start kafka: format its storage: %w:\n%s", err, out)
	}
	s := &Server{
		Name: "kafka", Addr: local(o.Port), LogFile: o.LogFile, stopSignal: syscall.SIGTERM,
		command: func() *exec.Cmd { return java(context.Background(), "kafka.Kafka", properties) },
		ready:   ready,
	}
	return s, s.Restart(ctx)
}

// KafkaJVM are the options of a broker's JVM. One that lives for minutes earns nothing by being compiled well, which takes a third
// of a core for its first minutes. One that is to live for long is left to the JVM's own choice, which halves what a command costs it.
func KafkaJVM(long bool) []string {
	if long {
		return []string{"-Xms512m", "-Xmx1g"}
	}
	return []string{"-XX:TieredStopAtLevel=1", "-Xms256m", "-Xmx512m"}
}

func plainProperties(o Options) string {
	return strings.Join([]string{
		commonProperties(o),
		"listeners=PLAINTEXT://" + local(o.Port) + ",CONTROLLER://" + local(o.SecondPort),
		"advertised.listeners=PLAINTEXT://" + cmp.Or(o.Advertised, local(o.Port)),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"",
	}, "\n")
}

func commonProperties(o Options) string {
	return strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"log.dirs=" + filepath.Join(o.DataDir, "data"),
		"controller.listener.names=CONTROLLER",
		"controller.quorum.voters=1@" + local(o.SecondPort),
		"auto.create.topics.enable=false",
		// One broker holds everything; few internal partitions make its first group and transaction quick.
		"offsets.topic.replication.factor=1",
		"offsets.topic.num.partitions=4",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"transaction.state.log.num.partitions=4",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
	}, "\n")
}

func pingKafka(address string, opts ...kgo.Opt) func(context.Context) error {
	return func(ctx context.Context) error {
		client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(address))...)
		if err != nil {
			return err
		}
		defer client.Close()
		return client.Ping(ctx)
	}
}

// StartKfake starts kfake, a Kafka broker in Go, in a process of its own, with each write synced to disk, and waits
// until it answers.
func StartKfake(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("start kfake: %w", err)
	}
	command, err := child("kfake", o.DataDir, strconv.Itoa(o.Port))
	if err != nil {
		return nil, fmt.Errorf("start kfake: %w", err)
	}
	s := &Server{
		Name: "kfake", Addr: local(o.Port), LogFile: o.LogFile, stopSignal: syscall.SIGTERM,
		command: command, ready: pingKafka(local(o.Port)),
	}
	return s, s.Restart(ctx)
}

// serveKfake is kfake's process.
func serveKfake(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: DATADIR PORT")
	}
	port, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("read the port: %w", err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	cluster, err := kfake.NewCluster(kfake.Ports(port), kfake.DataDir(args[0]), kfake.SyncWrites(),
		kfake.WithLogger(kfake.BasicLogger(os.Stderr, kfake.LogLevelWarn)))
	if err != nil {
		return fmt.Errorf("start kfake: %w", err)
	}
	<-stop
	cluster.Close()
	return nil
}

// KafkaVersion is the version of the Apache Kafka that StartKafka starts.
func KafkaVersion() string {
	_, after, _ := strings.Cut(string(embedded("kafka/pom.xml").Text), "<artifactId>kafka_2.13</artifactId>")
	_, after, _ = strings.Cut(after, "<version>")
	version, _, _ := strings.Cut(after, "</version>")
	return version
}
