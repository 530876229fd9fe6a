package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/lotline/lotline/pkg/confirm"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/services/allocator"
)

// offsetsCmd has the flags of where the positions are.
type offsetsCmd struct {
	postgresclient.Settings `embed:"" group:"Postgres:"`

	Show offsetsShowCmd `cmd:"" help:"Print where each partition of the commands stands. Exit code 1 if one is halted, 2 on errors."`
	Skip offsetsSkipCmd `cmd:"" help:"Move partitions past what cannot be read. Shows what that gives up; does it with --confirm."`
}

// desk opens what both commands look at. The caller closes it.
func (o *offsetsCmd) desk(e *env) (*allocator.Desk, error) {
	url, err := o.ConnURL()
	if err != nil {
		return nil, err
	}
	client, err := e.connect()
	if err != nil {
		return nil, err
	}
	client.Close()
	return allocator.OpenDesk(e.kafka, clientID, url)
}

type offsetsShowCmd struct {
	JSON bool `env:"-" name:"json" help:"One JSON object a line."`
}

// Help is shown below the flags' own.
func (offsetsShowCmd) Help() string {
	return `Offsets are those of the commands topic; all below one is meant. APPLIED: decided, in Postgres. PUBLISHED: the
group's committed offset, below which every event is visible. Between the two, decided events wait in the outbox; below
OUTBOX FLOOR they were published and may be deleted from it. OWNER is the allocator that has the partition. Halted is
what can be seen from outside; for other reasons, look at the allocators' /readyz.`
}

// Run prints where partitions stand.
func (c *offsetsShowCmd) Run(e *env, o *offsetsCmd) error {
	desk, err := o.desk(e)
	if err != nil {
		return exit{exitUsage, err}
	}
	defer desk.Close()
	all, err := desk.Look(e.ctx)
	if err != nil {
		return exit{exitUsage, err}
	}
	if c.JSON {
		err = writeLines(e.stdout, all)
	} else {
		err = printStandings(e.stdout, all)
	}
	if err != nil {
		return exit{exitUsage, err}
	}
	for _, s := range all {
		if s.Halted != "" {
			return exit{exitFailed, nil}
		}
	}
	return nil
}

func writeLines[T any](out io.Writer, all []T) error {
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for _, v := range all {
		if err := lines.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

func printStandings(out io.Writer, all []allocator.Standing) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "PARTITION\tLOG START\tLOG END\tAPPLIED\tPUBLISHED\tOUTBOX FLOOR\tTO DECIDE\tTO PUBLISH\t  STATE\tOWNER\t")
	for _, s := range all {
		state, published, owner := "ok", strconv.FormatInt(s.Committed, 10), s.Owner
		if s.Halted != "" {
			state = "HALTED"
		}
		if s.Committed < 0 {
			published = "-"
		}
		if owner == "" {
			owner = "-"
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%s\t%d\t%d\t%d\t  %s\t%s\t\n", s.Partition, s.LogStart, s.LogEnd, s.Applied, published, s.OutboxFloor, s.ToDecide, s.ToPublish, state, plain(owner))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(all) > 0 {
		fmt.Fprintf(out, "\nThe topic's id is %s.\n", all[0].TopicID)
	}
	for _, s := range all {
		switch {
		case s.Halted != "" && s.SkipTo >= 0:
			fmt.Fprintf(out, "Partition %d is halted: %s. `lotline offsets skip --partition=%d` shows what it gives up to go on at offset %d.\n", s.Partition, plain(s.Halted), s.Partition, s.SkipTo)
		case s.Halted != "":
			fmt.Fprintf(out, "Partition %d is halted: %s.\n", s.Partition, plain(s.Halted))
		case s.Note != "":
			fmt.Fprintf(out, "Partition %d: %s.\n", s.Partition, plain(s.Note))
		}
	}
	return nil
}

// skipTo is an offset, or a word for one.
type skipTo int64

// UnmarshalText reads --to.
func (t *skipTo) UnmarshalText(text []byte) error {
	switch n, err := strconv.ParseInt(string(text), 10, 64); {
	case string(text) == "readable":
		*t = skipTo(allocator.SkipAuto)
	case string(text) == "log-start":
		*t = skipTo(allocator.SkipLogStart)
	case err != nil || n < 0:
		return fmt.Errorf("%q is neither an offset nor log-start nor readable", text)
	default:
		*t = skipTo(n)
	}
	return nil
}

type offsetsSkipCmd struct {
	Partition []int32 `env:"-" required:"" placeholder:"N" help:"Which partitions, separated by commas."`
	To        skipTo  `env:"-" default:"readable" placeholder:"OFFSET" help:"Where to go on: an offset; log-start; or readable, which is just past what cannot be read."`
	Confirm   string  `env:"-" placeholder:"TOKEN" help:"Do it: the token that was shown with what would be given up."`
	JSON      bool    `env:"-" name:"json" help:"One JSON object a line."`
}

// Help is shown below the flags' own.
func (offsetsSkipCmd) Help() string {
	return `For a partition that an allocator has halted because its commands cannot be read: they were deleted before they
were decided, the topic was created anew, or a batch cannot be decompressed. What is given up is never decided and has no
outcome. Everything that was decided stays; if its events are not published yet and no allocator can do that any more,
they are published now, in the order of each SKU's versions: partitions that went on from each other are named together.
Allocators have to be stopped for that, and where the topic was made anew and the group still has an offset of the old one
beyond the new start. The dry run says so. Else they may run: the one that has the partition goes on
by itself within seconds. If a partition moved between the dry run and --confirm, nothing is done.`
}

// Run shows what moving would give up, or moves.
func (c *offsetsSkipCmd) Run(e *env, o *offsetsCmd) error {
	desk, err := o.desk(e)
	if err != nil {
		return err
	}
	defer desk.Close()
	all, err := desk.Look(e.ctx)
	if err != nil {
		return err
	}
	var plans []*allocator.Skip
	var digest confirm.Digest
	for _, p := range c.Partition {
		if p < 0 || int(p) >= len(all) {
			return exit{exitUsage, fmt.Errorf("there is no partition %d: the topic has 0 to %d", p, len(all)-1)}
		}
		plan, err := desk.Plan(e.ctx, all[p], int64(c.To))
		if err != nil {
			return err
		}
		plans = append(plans, plan)
		digest.Add(plan.Fingerprint())
	}
	if err := allocator.SkipsOrdered(plans...); err != nil {
		return err
	}
	if c.Confirm == "" {
		return c.dryRun(e, plans, digest.Token())
	}
	if c.Confirm != digest.Token() {
		return errors.New("this is not what was shown: a partition moved, or other flags were given; look again without --confirm")
	}
	if err := desk.Do(e.ctx, plans...); err != nil {
		return err
	}
	if c.JSON {
		return writeLines(e.stdout, plans)
	}
	for _, plan := range plans {
		fmt.Fprintf(e.stdout, "partition %d goes on at offset %d\n", plan.Partition, plan.To)
	}
	return nil
}

const decidedListedMax = 20

func (c *offsetsSkipCmd) dryRun(e *env, plans []*allocator.Skip, token string) error {
	out := e.stdout
	if c.JSON {
		if err := writeLines(e.stdout, plans); err != nil {
			return err
		}
		out = e.stderr
	} else {
		for _, p := range plans {
			printSkip(e.stdout, p)
		}
	}
	fmt.Fprintf(out, "Nothing was done yet. To do it, give the same command again with --confirm=%s\n", token)
	return nil
}

func printSkip(out io.Writer, p *allocator.Skip) {
	why := "is not known to be halted"
	if p.Why != "" {
		why = "is halted: " + plain(p.Why)
	}
	fmt.Fprintf(out, "Partition %d %s.\nIt would go on at offset %d.\n", p.Partition, why, p.To)
	for _, what := range p.GivenUp {
		fmt.Fprintf(out, "  given up: %s\n", plain(what))
	}
	for i, d := range p.Publish {
		if i == decidedListedMax {
			fmt.Fprintf(out, "  published: those of %d more (--json lists all)\n", len(p.Publish)-i)
			break
		}
		fmt.Fprintf(out, "  published: %d events of offset %d (sku %s), decided and not published yet\n", d.Events, d.Offset, plain(d.SKU))
	}
	for _, d := range p.Lost {
		fmt.Fprintf(out, "  given up: the dead letter of offset %d, whose bytes are gone, unless it was written before (%s)\n", d.Offset, plain(d.Reason))
	}
	if len(p.Publish)+len(p.Lost) == 0 {
		fmt.Fprintln(out, "  Nothing else is given up: what else was decided is published, or waits in the outbox for an allocator.")
	}
	if p.Stop != "" {
		fmt.Fprintf(out, "  All allocators have to be stopped for it: %s.\n", p.Stop)
	}
}
