package rebuild

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"

	"github.com/lotline/lotline/services/projector/internal/eventlog"
)

// Marks of a filling from events.
const (
	markStarts   = "starts" // per partition: what the log is to have below, and from where the topic is read
	markPosition = "position"
)

// positionEvery is how often the position in the topic is marked.
const positionEvery = 2 * time.Second

// fromEvents loads what the store's own log has of events that the topic no longer has, and then applies all that the
// topic has, as a projector does: that also fills the log and the outcomes where they are empty.
func (r *rebuild) fromEvents(ctx context.Context) error {
	starts, position, err := r.whereFrom(ctx)
	if err != nil {
		return err
	}
	if err := r.fromLog(ctx, starts); err != nil {
		return err
	}
	ends, err := eventlog.Ends(ctx, r.EventsTopic, r.Kafka)
	if err != nil {
		return err
	}
	events, total := r.done.rows, r.done.rows
	for p, end := range ends {
		total += end - starts[p]
		events += position[p] - starts[p]
	}
	marked := time.Now()
	_, err = eventlog.Replay(ctx, r.EventsTopic, nil, position, r.Kafka, func(block []readmodel.Record) error {
		for len(block) > 0 {
			part := block[:r.pace.most(len(block))]
			block = block[len(part):]
			if err := r.pace.wait(ctx, len(part)); err != nil {
				return err
			}
			if err := r.retry(ctx, "apply a block to every generation", func(ctx context.Context) error { return r.Writer.Apply(ctx, part) }); err != nil {
				return err
			}
			for i := range part {
				position[part[i].Partition] = part[i].Offset + 1
			}
			events += int64(len(part))
			r.progress(events, total, "events")
			if time.Since(marked) < positionEvery {
				continue
			}
			marked = time.Now()
			if err := r.markOffsets(ctx, markPosition, position); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// whereFrom returns where the topic began when the filling did, and how far it has come. If the topic's retention has
// meanwhile deleted what was not read yet, it begins anew.
func (r *rebuild) whereFrom(ctx context.Context) (starts, position map[int32]int64, err error) {
	now, err := eventlog.Starts(ctx, r.EventsTopic, r.Kafka)
	if err != nil {
		return nil, nil, err
	}
	if starts, err = offsetsOf(r.marks[markStarts]); err != nil {
		return nil, nil, err
	}
	if position, err = offsetsOf(r.marks[markPosition]); err != nil {
		return nil, nil, err
	}
	anew := len(starts) == 0
	for p, start := range now {
		anew = anew || start > max(starts[p], position[p])
	}
	if anew {
		starts, position = now, map[int32]int64{}
		if err := r.markOffsets(ctx, markStarts, starts); err != nil {
			return nil, nil, err
		}
		if err := r.markOffsets(ctx, markPosition, position); err != nil {
			return nil, nil, err
		}
	}
	for p, start := range starts {
		position[p] = max(position[p], start)
	}
	return starts, position, nil
}

// fromLog loads what the store's own log has below the topic's starts.
func (r *rebuild) fromLog(ctx context.Context, starts map[int32]int64) error {
	cut := false
	for _, start := range starts {
		cut = cut || start > 0
	}
	if !cut {
		return nil
	}
	logged, ok := r.Store.(readmodel.Logged)
	if !ok {
		return fmt.Errorf("the topic %s no longer has its first events, and %s keeps none: rebuild it with --from=state", r.EventsTopic, r.Store.Name())
	}
	parts, err := logged.LogParts(ctx, starts)
	if err != nil {
		return err
	}
	var total, done int64
	for _, part := range parts {
		total += part.Events
	}
	below, err := json.Marshal(starts)
	if err != nil {
		return fmt.Errorf("write down the topic's starts: %w", err)
	}
	for _, part := range parts {
		name := "log/" + part.Name
		if r.marks[name] != string(below) {
			if err := r.pace.wait(ctx, int(part.Events)); err != nil {
				return err
			}
			if err := r.retry(ctx, "load "+part.Name+" from the log", func(ctx context.Context) error {
				return logged.LoadLog(ctx, r.generation, starts, part.Name)
			}); err != nil {
				return err
			}
			if err := r.Store.Mark(ctx, r.generation, name, string(below)); err != nil {
				return err
			}
		}
		done += part.Events
		r.progress(done, total, "events")
	}
	return nil
}

func (r *rebuild) markOffsets(ctx context.Context, name string, offsets map[int32]int64) error {
	value, err := json.Marshal(offsets)
	if err != nil {
		return fmt.Errorf("write down offsets: %w", err)
	}
	return r.retry(ctx, "mark the position "+strconv.Quote(name), func(ctx context.Context) error {
		return r.Store.Mark(ctx, r.generation, name, string(value))
	})
}

func offsetsOf(mark string) (map[int32]int64, error) {
	offsets := make(map[int32]int64)
	if mark == "" {
		return offsets, nil
	}
	if err := json.Unmarshal([]byte(mark), &offsets); err != nil {
		return nil, fmt.Errorf("read the offsets %q that were marked: %w", mark, err)
	}
	return offsets, nil
}
