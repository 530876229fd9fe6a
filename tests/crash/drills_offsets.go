package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/lotline/lotline/tests/verify"
	"github.com/lotline/lotline/topics"
)

// commandsTruncated deletes commands from a partition before they are decided.
func commandsTruncated(ctx context.Context, f *Field) error {
	if err := f.keepCommands(ctx); err != nil {
		return err
	}
	if err := f.stopAllocators(); err != nil {
		return err
	}
	if err := f.load(ctx)(); err != nil {
		return err
	}
	declared := topics.Declared(f.name)
	commands := declared.Commands.Name
	committed, err := f.adm.FetchOffsets(ctx, declared.AllocatorGroup)
	ends, endsErr := f.adm.ListEndOffsets(ctx, commands)
	if err = errors.Join(err, endsErr); err != nil {
		return fmt.Errorf("look for commands that are not decided: %w", err)
	}
	var partition int32
	var from, cut int64
	ends.Each(func(end kadm.ListedOffset) {
		at, _ := committed.Lookup(commands, end.Partition)
		if n := (end.Offset - at.At) / 2; at.At > 0 && n > cut-from {
			partition, from, cut = end.Partition, at.At, at.At+n
		}
	})
	before := kadm.Offsets{}
	before.Add(kadm.Offset{Topic: commands, Partition: partition, At: cut})
	deleted, err := f.adm.DeleteRecords(ctx, before)
	if err = errors.Join(err, deleted.Error()); err != nil {
		return fmt.Errorf("delete commands: %w", err)
	}
	if err := f.startAllocators(ctx); err != nil {
		return err
	}
	return f.skip(ctx, fmt.Sprintf("commands %d@%d..%d deleted before they were decided", partition, from, cut-1), partition)
}

// keepCommands remembers for the judge what was decided before the log loses it.
func (f *Field) keepCommands(ctx context.Context) error {
	if _, err := f.awaitPublished(ctx, time.Now()); err != nil {
		return err
	}
	var err error
	f.target.Gone, err = verify.ReadCommands(ctx, f.target.Kafka)
	return err
}

func (f *Field) stopAllocators() error {
	return errors.Join(f.stop("allocator", "a"), f.stop("allocator", "b"))
}

func (f *Field) startAllocators(ctx context.Context) error {
	return errors.Join(f.run(ctx, "allocator", "a"), f.run(ctx, "allocator", "b"))
}

var confirmToken = regexp.MustCompile(`--confirm=[0-9a-f]+`)

// skip waits until partitions are halted, sees them named by /readyz and by `lotline offsets show`, and moves them on
// as an operator does: a dry run, then by its token. Then all are to be ready again.
func (f *Field) skip(ctx context.Context, fault string, partitions ...int32) error {
	says, err := f.names(ctx, "allocator", "is halted")
	if err != nil {
		return err
	}
	f.took(fault, "%s", says)
	halted, err := f.halted(ctx)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		if halted[p] == "" {
			return fmt.Errorf("lotline offsets show does not say that partition %d is halted, only %v", p, halted)
		}
	}
	f.took("seen from outside", "lotline offsets show: %d partitions, the first is %d: %s", len(partitions), partitions[0], clip(halted[partitions[0]]))
	args := []string{"offsets", "skip"}
	for _, p := range partitions {
		args = append(args, fmt.Sprintf("--partition=%d", p))
	}
	plan, err := f.command(ctx, "lotline", args...).CombinedOutput()
	token := confirmToken.FindString(string(plan))
	if err != nil || token == "" {
		return fmt.Errorf("lotline %v: %w: %s", args, err, plan)
	}
	for _, line := range strings.Split(string(plan), "\n") {
		if strings.Contains(line, "given up:") {
			f.took("dry run", "%s", strings.TrimSpace(line))
			break
		}
	}
	if again, err := f.halted(ctx); err != nil || len(again) != len(halted) {
		return fmt.Errorf("a dry run changed something: halted were %v, are %v: %w", halted, again, err)
	}
	confirmed := time.Now()
	if output, err := f.command(ctx, "lotline", append(args, token)...).CombinedOutput(); err != nil {
		return fmt.Errorf("lotline %v %s: %w: %s", args, token, err, output)
	}
	if err := f.readyAgain(ctx); err != nil {
		return err
	}
	f.measure("confirmed, all ready after", time.Since(confirmed))
	return nil
}

// standing is what `lotline offsets show` says of a partition, as far as drills look at it.
type standing struct {
	Partition int32
	Halted    string
	ToPublish int64 `json:"to_publish"`
	ToDecide  int64 `json:"to_decide"`
}

func (f *Field) standings(ctx context.Context) (all []standing, err error) {
	output, err := f.command(ctx, "lotline", "offsets", "show", "--json").Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("lotline offsets show: %w: %s", err, output)
	}
	for line := range strings.Lines(string(output)) {
		var s standing
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return nil, fmt.Errorf("lotline offsets show: %w: %s", err, line)
		}
		all = append(all, s)
	}
	return all, nil
}

// halted are the partitions that `lotline offsets show` calls so, and why.
func (f *Field) halted(ctx context.Context) (map[int32]string, error) {
	all, err := f.standings(ctx)
	halted := make(map[int32]string)
	for _, s := range all {
		if s.Halted != "" {
			halted[s.Partition] = s.Halted
		}
	}
	return halted, err
}
