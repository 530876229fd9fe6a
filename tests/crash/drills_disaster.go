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
	deleted, err := f.adm.DeleteGroups(ctx, topics.Declared(f.name).ProjectorGroup)
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
