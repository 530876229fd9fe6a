package crash

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/lotline/lotline/topics"
)

const morePartitions = 5

// partitionsAdded moves SKUs to other partitions: their older commands and events stay where they are.
func partitionsAdded(ctx context.Context, f *Field) error {
	set := topics.Declared(f.name)
	lines := f.during
	f.during = nil
	if err := f.send(ctx, lines[:len(lines)/2]); err != nil {
		return err
	}
	results, err := f.adm.CreatePartitions(ctx, morePartitions, set.Commands.Name, set.Events.Name)
	if err = errors.Join(err, results.Error()); err != nil {
		return fmt.Errorf("add partitions: %w", err)
	}
	added := time.Now()
	// `lotline send` is a new client each time: it sees the new partitions at once.
	if err := f.send(ctx, lines[len(lines)/2:]); err != nil {
		return err
	}
	ends, err := f.adm.ListEndOffsets(ctx, set.Commands.Name)
	if err = errors.Join(err, ends.Error()); err != nil {
		return fmt.Errorf("look at the new partitions: %w", err)
	}
	var onNew int64
	ends.Each(func(o kadm.ListedOffset) {
		if o.Partition >= set.Commands.Partitions {
			onNew += o.Offset
		}
	})
	if onNew > 0 {
		f.took(fmt.Sprintf("%d more partitions", morePartitions), "%d commands came on the new ones", onNew)
	}
	took, err := f.awaitPublished(ctx, added)
	f.measure("all on the new partitions published after", took)
	return err
}

// clickHouseWiped loses the read model, and fills it again by the documented steps: stop the projectors, migrate,
// delete their group, start them.
func clickHouseWiped(ctx context.Context, f *Field) error {
	sent := f.load(ctx)
	for _, instance := range []string{"a", "b"} {
		if err := f.stop("projector", instance); err != nil {
			return err
		}
	}
	if err := f.dropClickHouse(ctx); err != nil {
		return err
	}
	if output, err := f.command(ctx, "lotline", "verify", "--wait=1s").CombinedOutput(); err != nil {
		f.took("ClickHouse's database dropped", "lotline verify: %s", clip(string(output)))
	}
	if output, err := f.command(ctx, "lotline", "migrate", "clickhouse").CombinedOutput(); err != nil {
		return fmt.Errorf("lotline migrate: %w: %s", err, output)
	}
	deleted, err := f.adm.DeleteGroups(ctx, f.name+".projector")
	if err = errors.Join(err, deleted.Error()); err != nil {
		return fmt.Errorf("delete the projectors' group: %w", err)
	}
	for _, instance := range []string{"a", "b"} {
		if err := f.run(ctx, "projector", instance); err != nil {
			return err
		}
	}
	return sent()
}

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
