package crash

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/tests/verify"
	"github.com/lotline/lotline/topics"
)

// topicRecreated deletes the commands topic under running allocators and makes it anew, with other commands in it.
func topicRecreated(ctx context.Context, f *Field) error {
	if err := f.keepCommands(ctx); err != nil {
		return err
	}
	declared := topics.Declared(f.name).Commands
	old, err := f.adm.ListTopics(ctx, declared.Name)
	if err = errors.Join(err, old.Error()); err != nil {
		return fmt.Errorf("look at the commands topic: %w", err)
	}
	if _, err := f.adm.DeleteTopic(ctx, declared.Name); err != nil {
		return fmt.Errorf("delete the commands topic: %w", err)
	}
	for began := time.Now(); ; time.Sleep(lookEvery) { // the broker takes a moment to forget it
		output, err := f.command(ctx, "lotline", "topics", "apply", "--kafka-replication=1").CombinedOutput()
		now, nowErr := f.adm.ListTopics(ctx, declared.Name)
		if err = errors.Join(err, nowErr, now.Error()); err == nil && now[declared.Name].ID != old[declared.Name].ID {
			break
		}
		if time.Since(began) > noticedWithin {
			return fmt.Errorf("the commands topic was not made anew: lotline topics apply: %w: %s", err, output)
		}
	}
	if err := f.load(ctx)(); err != nil {
		return err
	}
	var all []int32
	for p := range declared.Partitions {
		all = append(all, p)
	}
	return f.skip(ctx, "the commands topic deleted and made anew", all...)
}

const overSize = 17 << 20 // bytes: a MiB more than clients inflate

// undecompressable sends a record among the load that inflates to more than an allocator holds.
func undecompressable(ctx context.Context, f *Field) error {
	client, err := kgo.NewClient(append(f.target.Kafka.Opts("lotline-drill"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(overSize+1<<20))...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	bomb := &kgo.Record{Topic: topics.Declared(f.name).Commands.Name, Partition: 3, Value: make([]byte, overSize)}
	if err := client.ProduceSync(ctx, bomb).FirstErr(); err != nil {
		return fmt.Errorf("send a record that inflates to %d MiB: %w", overSize>>20, err)
	}
	sent := f.load(ctx)
	commands, err := verify.ReadCommands(ctx, f.target.Kafka)
	if err != nil {
		return errors.Join(err, sent())
	}
	f.target.GivenUp = make(map[string]bool)
	for command, r := range commands {
		if r.Partition == bomb.Partition && r.Offset == bomb.Offset {
			f.target.GivenUp[command] = true
		}
	}
	if err := sent(); err != nil {
		return err
	}
	return f.skip(ctx, fmt.Sprintf("a record at %d@%d that inflates to %d MiB", bomb.Partition, bomb.Offset, overSize>>20), bomb.Partition)
}

// groupOffsetsDeleted stops the allocators while commands come, and deletes their group's offsets before the next start.
func groupOffsetsDeleted(ctx context.Context, f *Field) error {
	if _, err := f.awaitPublished(ctx, time.Now()); err != nil {
		return err
	}
	sent := f.load(ctx)
	if err := errors.Join(f.stopAllocators(), sent()); err != nil {
		return err
	}
	declared := topics.Declared(f.name)
	all := make(kadm.TopicsSet)
	for p := range declared.Commands.Partitions {
		all.Add(declared.Commands.Name, p)
	}
	before, err := f.groupOffsets(ctx)
	if err != nil {
		return err
	}
	deleted, err := f.adm.DeleteOffsets(ctx, declared.AllocatorGroup, all)
	if err = errors.Join(err, deleted.Error()); err != nil {
		return fmt.Errorf("delete the offsets of %s: %w", declared.AllocatorGroup, err)
	}
	after, err := f.groupOffsets(ctx)
	if err != nil {
		return err
	}
	if before > 0 && after == 0 {
		f.took("the group's offsets deleted", "it had those of %d partitions, and has none", before)
	}
	standings, err := f.standings(ctx)
	if err != nil {
		return err
	}
	var toDecide, toPublish int64
	for _, s := range standings {
		toDecide, toPublish = toDecide+s.ToDecide, toPublish+s.ToPublish
	}
	if toPublish > 0 {
		return fmt.Errorf("after a clean stop, %d offsets would be published again", toPublish)
	}
	started := time.Now()
	if err := f.startAllocators(ctx); err != nil {
		return err
	}
	took, err := f.awaitPublished(ctx, started)
	f.measure(fmt.Sprintf("started, the %d commands that came meanwhile published after", toDecide), took)
	return err
}

// groupOffsets counts the partitions of which the allocators' group has an offset.
func (f *Field) groupOffsets(ctx context.Context) (n int, err error) {
	offsets, err := f.adm.FetchOffsets(ctx, topics.Declared(f.name).AllocatorGroup)
	if err = errors.Join(err, offsets.Error()); err != nil {
		return 0, fmt.Errorf("fetch the offsets of the allocators: %w", err)
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.At >= 0 {
			n++
		}
	})
	return n, nil
}
