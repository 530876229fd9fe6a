// Package tail prints what is on Lotline's topics, decoded, one JSON object a
// line.
//
// The operator's `lotline tail` calls it. It reads without a consumer group, so
// it disturbs nobody, and only what is committed, so that it never shows an
// event that no consumer will see.
package tail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/schemas"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	pollRecordsMax = 1000

	// idle is how long a tail that is to end at the end waits for records that
	// the broker said are there.
	idle = 3 * time.Second
)

// Kind is what a topic holds.
type Kind string

// The kinds of topics.
const (
	Commands    Kind = "commands"
	Events      Kind = "events"
	DeadLetters Kind = "dlq"
)

// Options say what to print.
type Options struct {
	Kind       Kind
	Topic      string
	Partitions []int32 // none: all
	From       string  // start, end, an offset, or -n: the last n offsets of each partition
	Count      int     // lines to print at most; 0: no limit
	Follow     bool    // wait for more at the end
	SKU        string  // only what is about it; "": all
	Types      []string
}

// unknownTypes are those that this build cannot read. They may be there all the same: of a newer one, or unreadable.
func (o Options) unknownTypes() (unknown []string) {
	prefix := map[Kind]string{Commands: "lotline.command.v1.", Events: "lotline.event.v1."}[o.Kind]
	for _, t := range o.Types {
		if prefix != "" && len(schemas.Fields(prefix+shortType(t))) == 0 {
			unknown = append(unknown, t)
		}
	}
	return unknown
}

// Run prints records to out until it has Count, until it is at the end that the
// topic had when it began (unless Follow), or until ctx ends. opts make the
// Kafka client. Warnings go to warn.
func Run(ctx context.Context, opts []kgo.Opt, o Options, out, warn io.Writer) error {
	client, err := kgo.NewClient(append(opts,
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // they show that the end was reached
		kafkaclient.ReadsDeadLetters(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer client.Close()
	for _, unknown := range o.unknownTypes() {
		fmt.Fprintf(warn, "This version knows nothing of the type %s in %s.\n", unknown, o.Topic)
	}
	spans, err := plan(ctx, kadm.NewClient(client), o)
	if err != nil {
		return err
	}
	starts := map[int32]kgo.Offset{}
	for p, s := range spans {
		starts[p] = kgo.NewOffset().At(s.next)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{o.Topic: starts})
	return follow(ctx, client, o, spans, out, warn)
}

// span is what is left to read of a partition.
type span struct{ next, end int64 }

// plan finds where to start and to end in each partition.
func plan(ctx context.Context, adm *kadm.Client, o Options) (map[int32]*span, error) {
	starts, err := adm.ListStartOffsets(ctx, o.Topic)
	if err = errors.Join(err, starts.Error()); errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("the topic %s does not exist: create it with `lotline topics apply`, or check --kafka-topic-prefix", o.Topic)
	} else if err != nil {
		return nil, fmt.Errorf("list the start offsets of %s: %w", o.Topic, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, o.Topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return nil, fmt.Errorf("list the end offsets of %s: %w", o.Topic, err)
	}
	for _, p := range o.Partitions {
		if _, ok := starts.Lookup(o.Topic, p); !ok {
			return nil, fmt.Errorf("the topic %s has no partition %d, only 0 to %d", o.Topic, p, len(starts[o.Topic])-1)
		}
	}
	spans := map[int32]*span{}
	for p, start := range starts[o.Topic] {
		if len(o.Partitions) > 0 && !slices.Contains(o.Partitions, p) {
			continue
		}
		end, _ := ends.Lookup(o.Topic, p)
		next, err := startAt(o.From, start.Offset, end.Offset)
		if err != nil {
			return nil, err
		}
		spans[p] = &span{next, end.Offset}
	}
	return spans, nil
}

// startAt returns the offset that from names in a partition that holds
// [start, end).
func startAt(from string, start, end int64) (int64, error) {
	switch from {
	case "start":
		return start, nil
	case "end":
		return end, nil
	}
	n, err := strconv.ParseInt(from, 10, 64)
	if err != nil || n == math.MinInt64 {
		return 0, fmt.Errorf("--from=%s is not start, end, an offset such as 1200, or -10 for the last ten of each partition", from)
	}
	if n < 0 {
		n += end
	}
	return min(max(n, start), end), nil
}

func follow(ctx context.Context, client *kgo.Client, o Options, spans map[int32]*span, out, warn io.Writer) error {
	p := printer{o: o, decode: map[Kind]decoder{Commands: decodeCommand, Events: decodeEvent}[o.Kind]}
	for o.Follow || unread(spans) {
		fetches, err := poll(ctx, client, o.Follow)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, context.DeadlineExceeded) {
			fmt.Fprintf(warn, "Nothing more came for %s, though the end was not reached: what is left was aborted, or a broker is away.\n", idle)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", o.Topic, err)
		}
		for _, r := range fetches.Records() {
			spans[r.Partition].next = r.Offset + 1
			if err := p.print(r); err != nil {
				return err
			}
			if p.full() {
				break
			}
		}
		if _, err := p.buffer.WriteTo(out); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if p.full() {
			return nil
		}
	}
	return nil
}

// poll waits for records; unless wait, for no longer than idle.
func poll(ctx context.Context, client *kgo.Client, wait bool) (kgo.Fetches, error) {
	if !wait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, idle)
		defer cancel()
	}
	fetches := client.PollRecords(ctx, pollRecordsMax)
	return fetches, fetches.Err()
}

func unread(spans map[int32]*span) bool {
	for _, s := range spans {
		if s.next < s.end {
			return true
		}
	}
	return false
}

// printer filters, counts and renders records into buffer.
type printer struct {
	o       Options
	decode  decoder
	printed int
	buffer  bytes.Buffer
}

func (p *printer) full() bool { return p.o.Count > 0 && p.printed >= p.o.Count }

func (p *printer) print(r *kgo.Record) error {
	if r.Attrs.IsControl() {
		return nil
	}
	v, sku := view(r, p.decode)
	if p.o.SKU != "" && p.o.SKU != sku ||
		len(p.o.Types) > 0 && !slices.ContainsFunc(p.o.Types, func(t string) bool { return shortType(t) == v.Type }) {
		return nil
	}
	p.printed++
	return appendLine(&p.buffer, v)
}
