// Package verify holds the pipeline's stores against each other, row by row: the commands topic, the events topic (as
// a read_committed consumer sees it), the dead letters, Postgres and ClickHouse.
//
// What it believes is the log: every readable command must have exactly one outcome, and a fold of the events must be
// what Postgres and ClickHouse hold. The crash and path tests call it. It may import schemas, topics and pkg, and
// never a service: a judge that shares code with the judged repeats its mistakes.
package verify

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/topics"
)

// Target says where a pipeline's stores are.
type Target struct {
	Kafka       kafkaclient.Config
	PostgresURL string
	ClickHouse  string // host:port, native protocol; empty: there is no read model, and nothing is said of one
	Database    string // in ClickHouse

	Gone    Commands        // commands that were decided and are not in the log any more
	GivenUp map[string]bool // commands that a person gave up, by topic id/partition/offset: nothing may come of them
}

// Commands are records of the commands topic by topic id/partition/offset.
type Commands map[string]*kgo.Record

// ReadCommands reads all that the commands topic has.
func ReadCommands(ctx context.Context, kafka kafkaclient.Config) (Commands, error) {
	topic := topics.Declared(kafka.TopicPrefix).Commands.Name
	records, err := ReadTopic(ctx, kafka, topic)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(kafka.Opts("lotline-verify")...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	id, err := topicID(ctx, kadm.NewClient(client), topic)
	if err != nil {
		return nil, err
	}
	commands := make(Commands, len(records))
	for _, r := range records {
		commands[fmt.Sprintf("%s/%d/%d", id, r.Partition, r.Offset)] = r
	}
	return commands, nil
}

// topicID is a topic's id as commands and Postgres have it.
func topicID(ctx context.Context, adm *kadm.Client, topic string) (string, error) {
	found, err := adm.ListTopics(ctx, topic)
	if err = errors.Join(err, found.Error()); err != nil {
		return "", fmt.Errorf("ask for the id of %s: %w", topic, err)
	}
	id := found[topic].ID
	return base64.RawURLEncoding.EncodeToString(id[:]), nil
}

// Report is what was compared, and what was found wrong. Digest names the end state: two runs of the same commands
// end in the same.
type Report struct {
	Compared []Line
	Faults   []string // at most faultsMax; empty = everything agrees
	More     int      // faults beyond those
	Digest   string
}

// Line is one comparison that was made.
type Line struct {
	What string
	Rows int
}

const faultsMax = 20

// fault notes what is wrong.
func (r *Report) fault(format string, args ...any) {
	if len(r.Faults) == faultsMax {
		r.More++
		return
	}
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

func (r *Report) compared(what string, rows int) {
	r.Compared = append(r.Compared, Line{what, rows})
}

// Err is nil if everything agrees.
func (r *Report) Err() error {
	if len(r.Faults) == 0 {
		return nil
	}
	return fmt.Errorf("%d faults, the first: %s", len(r.Faults)+r.More, r.Faults[0])
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	for _, l := range r.Compared {
		fmt.Fprintf(&b, "%10d  %s\n", l.Rows, l.What)
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "     FAULT  %s\n", f)
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "     FAULT  and %d more\n", r.More)
	}
	fmt.Fprintf(&b, "     state  %s\n", r.Digest)
	_, err := io.WriteString(w, b.String())
	return err
}

// Run waits until everything is applied, published and projected, and compares. The error says that it could not
// compare; what does not agree is in the report.
func Run(ctx context.Context, t Target) (*Report, error) {
	if err := Settle(ctx, t); err != nil {
		return nil, err
	}
	declared := topics.Declared(t.Kafka.TopicPrefix)
	report := &Report{}
	commands, err := ReadCommands(ctx, t.Kafka)
	if err != nil {
		return nil, err
	}
	maps.Copy(commands, t.Gone)
	maps.DeleteFunc(commands, func(command string, _ *kgo.Record) bool { return t.GivenUp[command] })
	events, err := ReadTopic(ctx, t.Kafka, declared.Events.Name)
	if err != nil {
		return nil, err
	}
	dead, err := ReadTopic(ctx, t.Kafka, declared.DeadLetters.Name)
	if err != nil {
		return nil, err
	}
	readable, unreadable := split(commands)
	report.compared("commands that can be read", len(readable))
	state := fold(report, events)
	checkOutcomes(report, readable, state)
	checkDeadLetters(report, unreadable, dead)
	if err := comparePostgres(ctx, report, t, state); err != nil {
		return nil, err
	}
	if t.ClickHouse != "" {
		if err := compareClickHouse(ctx, report, t, state); err != nil {
			return nil, err
		}
	}
	report.Digest = state.digest()
	return report, nil
}

// ReadTopic reads all of a topic, read_committed, up to the ends that it has now, by partition and offset.
func ReadTopic(ctx context.Context, kafka kafkaclient.Config, topic string) ([]*kgo.Record, error) {
	return readFrom(ctx, kafka, topic, nil)
}

// readFrom reads partitions from where starts says, all of them from their start if it is nil.
func readFrom(ctx context.Context, kafka kafkaclient.Config, topic string, starts map[int32]kgo.Offset) ([]*kgo.Record, error) {
	admin, err := kgo.NewClient(kafka.Opts("lotline-verify")...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer admin.Close()
	begins, err := kadm.NewClient(admin).ListStartOffsets(ctx, topic)
	ends, endsErr := kadm.NewClient(admin).ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, endsErr, begins.Error(), ends.Error()); err != nil {
		return nil, fmt.Errorf("find the ends of %s: %w", topic, err)
	}
	left := make(map[int32]int64)
	consume := make(map[int32]kgo.Offset)
	ends.Each(func(o kadm.ListedOffset) {
		start, wanted := starts[o.Partition]
		if starts == nil {
			start, wanted = kgo.NewOffset().AtStart(), true
		}
		if wanted && o.Offset > must(begins.Lookup(topic, o.Partition)).Offset {
			left[o.Partition], consume[o.Partition] = o.Offset, start
		}
	})
	client, err := kgo.NewClient(append(kafka.Opts("lotline-verify"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: consume}),
		// It holds whole topics, of any size: the bound on what the clients of a service inflate would never let it end.
		kgo.WithDecompressor(kgo.DefaultDecompressor()),
		// Markers are kept, so that a partition which ends in one is seen to end.
		kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read %s, partitions %v left: %w", topic, slices.Sorted(maps.Keys(left)), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	})
	return records, nil
}
