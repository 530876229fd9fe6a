package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/topics"
)

// poisonFlood sends the load between unreadable records, and measures what that costs the load.
func poisonFlood(ctx context.Context, f *Field) error {
	lines := f.during
	f.during = nil
	began := time.Now()
	if err := f.send(ctx, lines[:len(lines)/2]); err != nil {
		return err
	}
	calm, err := f.awaitPublished(ctx, began)
	if err != nil {
		return err
	}
	good := lines[len(lines)/2:]
	mixed := make([]string, 0, len(good)+f.options.Flood)
	for i := range f.options.Flood {
		mixed = append(mixed, fmt.Sprintf("poison %d, which is no command", i))
		if i%(f.options.Flood/len(good)+1) == 0 && len(good) > 0 {
			mixed, good = append(mixed, good[0]), good[1:]
		}
	}
	began = time.Now()
	if err := f.send(ctx, append(mixed, good...)); err != nil {
		return err
	}
	flooded, err := f.awaitPublished(ctx, began)
	if err != nil {
		return err
	}
	f.measure(fmt.Sprintf("%d good commands", len(lines)/2), calm)
	f.measure(fmt.Sprintf("the same among %d unreadable ones", f.options.Flood), flooded)
	ends, err := f.adm.ListEndOffsets(ctx, topics.Declared(f.name).DeadLetters.Name)
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	if end, _ := ends.Lookup(topics.Declared(f.name).DeadLetters.Name, 0); end.Offset >= int64(f.options.Flood) {
		f.took(fmt.Sprintf("%d unreadable records", f.options.Flood), "the dead letters' topic reaches offset %d", end.Offset)
	}
	return nil
}

// hostile is a kind of record that somebody could send to do harm, or by mistake.
type hostile struct {
	name    string
	count   int
	value   string
	headers int // beside those of a command
	sku     string
}

const (
	valueMax = 1 << 20  // bytes, of what the wire takes
	bombSize = 12 << 20 // bytes, of a record that is a few kilobytes while it is compressed
)

func hostiles() []hostile {
	padded := func(orderID string) string {
		head, tail := `{"orderid":"`+orderID+`","sku":"HOSTILE","qty":1,"note":"`, `"}`
		return head + strings.Repeat("x", valueMax-len(head)-len(tail)) + tail
	}
	return []hostile{
		{name: "1 MiB of letters", count: 20, value: strings.Repeat("x", valueMax)},
		{name: "1 MiB of brackets", count: 20, value: strings.Repeat("[", valueMax)},
		{name: "commands of 1 MiB, most of it unknown", count: 20, value: padded("o-padded"), sku: "HOSTILE"},
		{name: "records that inflate to 12 MiB", count: 8, value: strings.Repeat("\x00", bombSize)},
		{name: "records of 5,000 headers", count: 20, value: "x", headers: 5000},
	}
}

// hostileSizes sends the load beside records of sizes that hurt, and commands whose producer's clock is years off.
func hostileSizes(ctx context.Context, f *Field) error {
	lines := f.during
	f.during = nil
	half := len(lines) / 2
	began := time.Now()
	if err := f.send(ctx, lines[:half]); err != nil {
		return err
	}
	calm, err := f.awaitPublished(ctx, began)
	if err != nil {
		return err
	}
	began = time.Now()
	sent := make(chan error, 1)
	go func() { sent <- f.send(ctx, lines[half:]) }()
	err = f.sendHostile(ctx)
	if err = errors.Join(err, <-sent); err != nil {
		return err
	}
	among, err := f.awaitPublished(ctx, began)
	if err != nil {
		return err
	}
	f.measure(fmt.Sprintf("%d good commands", half), calm)
	f.measure("as many beside the hostile records, and those", among)
	return f.yearsOff(ctx)
}

func (f *Field) sendHostile(ctx context.Context) error {
	client, err := kgo.NewClient(append(f.target.Kafka.Opts("lotline-drill"), kgo.DefaultProduceTopic(topics.Declared(f.name).Commands.Name),
		kgo.ProducerBatchMaxBytes(bombSize+1<<20), kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerLinger(0))...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	for _, kind := range hostiles() {
		var last *kgo.Record
		for range kind.count {
			r := &kgo.Record{Key: []byte(kind.sku), Value: []byte(kind.value), Headers: []kgo.RecordHeader{
				{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_type", Value: []byte("lotline.command.v1.Allocate")},
			}}
			for i := range kind.headers {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: fmt.Sprintf("h-%d", i), Value: []byte("x")})
			}
			if last, err = client.ProduceSync(ctx, r).First(); err != nil {
				return fmt.Errorf("send %s: %w", kind.name, err)
			}
		}
		f.took(fmt.Sprintf("%d %s", kind.count, kind.name), "the last is at offset %d of partition %d", last.Offset, last.Partition)
	}
	return nil
}

// yearsOff sends commands with a clock of 1971 and one of 2099: what they did must be told with the broker's time.
func (f *Field) yearsOff(ctx context.Context) error {
	client, err := kgo.NewClient(append(f.target.Kafka.Opts("lotline-drill"), kgo.DefaultProduceTopic(topics.Declared(f.name).Commands.Name))...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	began := time.Now()
	for _, year := range []int{1971, 2099} {
		clock, ref := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), fmt.Sprintf("batch-%d", year)
		r := &kgo.Record{Timestamp: clock, Key: []byte("YEARS-OFF"), Value: []byte(`{"ref":"` + ref + `","sku":"YEARS-OFF","qty":1,"eta":null}`), Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_type", Value: []byte("lotline.command.v1.CreateBatch")},
			{Key: "ce_time", Value: []byte(clock.Format(time.RFC3339))},
		}}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			return fmt.Errorf("send a command with the clock of %d: %w", year, err)
		}
	}
	if _, err := f.awaitPublished(ctx, began); err != nil {
		return err
	}
	output, err := f.command(ctx, "lotline", "tail", "events", "--sku=YEARS-OFF").Output()
	if err != nil {
		return fmt.Errorf("lotline tail: %w", err)
	}
	events := strings.Split(strings.TrimSpace(string(output)), "\n")
	if len(events) != 2 {
		return fmt.Errorf("two commands with clocks years off had %d events: %s", len(events), output)
	}
	for _, line := range events {
		var event struct{ Headers map[string]string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		at, err := time.Parse(time.RFC3339, event.Headers["ce_time"])
		if err != nil {
			return fmt.Errorf("read an event's time: %w", err)
		}
		if at.Sub(began).Abs() > time.Minute {
			return fmt.Errorf("the event of a command with a clock years off says %s, and the broker got it at %s", at, began)
		}
	}
	f.took("clocks of 1971 and 2099", "both events have the broker's time")
	return nil
}
