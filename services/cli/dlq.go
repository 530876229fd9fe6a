package cli

import (
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/lotline/lotline/pkg/deadletters"
	"github.com/lotline/lotline/topics"
)

type dlqCmd struct {
	List    dlqListCmd    `cmd:"" help:"Print the dead letters that are open, oldest first."`
	Show    dlqShowCmd    `cmd:"" help:"Print one dead letter whole."`
	Replay  dlqReplayCmd  `cmd:"" help:"Send dead letters again, as they came, and mark them as replayed. Shows which; does it with --confirm."`
	Discard dlqDiscardCmd `cmd:"" help:"Mark dead letters as not to be replayed. Shows which; does it with --confirm."`
}

// dlqFilter chooses dead letters.
type dlqFilter struct {
	Reason          string  `env:"-" placeholder:"TEXT" help:"Only those whose reason has this in it."`
	Key             *string `env:"-" aliases:"sku" placeholder:"KEY" help:"Only those with this key, which is the SKU if the sender did as asked (--sku is the same)."`
	Since           string  `env:"-" placeholder:"WHEN" help:"Only those that are this old at the most (90m), or from this time on (2031-01-02T15:04:05Z)."`
	OriginPartition *int32  `env:"-" placeholder:"N" help:"Only those from this partition of the commands topic."`
	OriginOffset    *int64  `env:"-" placeholder:"N" help:"Only those that had this offset there."`
}

func (f dlqFilter) filter(now time.Time) (deadletters.Filter, error) {
	filter := deadletters.Filter{Reason: f.Reason, Key: f.Key, OriginPartition: f.OriginPartition, OriginOffset: f.OriginOffset}
	if f.Since == "" {
		return filter, nil
	}
	if age, err := time.ParseDuration(f.Since); err == nil {
		filter.Since = now.Add(-age)
		return filter, nil
	}
	at, err := time.Parse(time.RFC3339, f.Since)
	if err != nil {
		return filter, exit{exitUsage, fmt.Errorf("--since=%s is neither an age such as 90m or 48h nor a time such as 2031-01-02T15:04:05Z", f.Since)}
	}
	filter.Since = at
	return filter, nil
}

func (e *env) deadLetters() (deadletters.Topic, error) {
	client, err := e.connect()
	if err != nil {
		return deadletters.Topic{}, err
	}
	client.Close()
	declared := topics.Declared(e.kafka.TopicPrefix)
	return deadletters.Topic{
		Name: declared.DeadLetters.Name, Commands: declared.Commands.Name, AnswersID: declared.AnswersID, Opts: e.kafka.Opts(clientID),
	}, nil
}

type dlqListCmd struct {
	dlqFilter `embed:""`
	All       bool `env:"-" help:"Those that were replayed or discarded too, and the marks that say so."`
	Limit     int  `env:"-" short:"n" default:"100" placeholder:"N" help:"Print this many at the most; 0 = all."`
	JSON      bool `env:"-" name:"json" help:"One JSON object a line, with headers and value."`
}

// Run prints dead letters.
func (c *dlqListCmd) Run(e *env) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	filter.All = c.All
	topic, err := e.deadLetters()
	if err != nil {
		return err
	}
	printed := 0
	room := func() error {
		if c.Limit > 0 && printed == c.Limit {
			return errLimit
		}
		printed++
		return nil
	}
	err = topic.Walk(e.ctx, filter, func(l *deadletters.Letter) error {
		if err := room(); err != nil {
			return err
		}
		return e.printLetter(l, c.JSON)
	}, func(m deadletters.Mark) error {
		if err := room(); err != nil {
			return err
		}
		return e.printMark(m, c.JSON)
	})
	switch {
	case errors.Is(err, errLimit):
		fmt.Fprintf(e.stderr, "There are more than %d: see them with --limit, or choose fewer.\n", c.Limit)
		return nil
	case err == nil && printed == 0 && !c.JSON:
		fmt.Fprintln(e.stdout, "no dead letters")
	}
	return err
}

var errLimit = errors.New("the limit was reached")

type dlqShowCmd struct {
	Place deadletters.Place `arg:"" help:"Its offset, or partition and offset (0@17)."`
	JSON  bool              `env:"-" name:"json" help:"As one JSON object."`
}

// Run prints a dead letter, and the mark that answered it.
func (c *dlqShowCmd) Run(e *env) error {
	topic, err := e.deadLetters()
	if err != nil {
		return err
	}
	found := false
	err = topic.Walk(e.ctx, deadletters.Filter{All: true, Places: []deadletters.Place{c.Place}}, func(l *deadletters.Letter) error {
		found = true
		if c.JSON {
			return e.printLetter(l, true)
		}
		return e.printWhole(l)
	}, func(m deadletters.Mark) error {
		return e.printMark(m, c.JSON)
	})
	if err == nil && !found {
		err = fmt.Errorf("there is no dead letter at %s of %s: `lotline dlq list --all` shows those that there are", c.Place, topic.Name)
	}
	return err
}

// dlqAnswer is what replay and discard have in common.
type dlqAnswer struct {
	Places    []deadletters.Place `arg:"" optional:"" help:"Offsets, or partitions and offsets (0@17); or choose by flags."`
	dlqFilter `embed:""`
	AllOpen   bool   `env:"-" help:"All that are open, if no other flag chooses fewer."`
	Limit     int    `env:"-" short:"n" default:"100" placeholder:"N" help:"The oldest N at the most; 1 to 100000."`
	By        string `env:"-" placeholder:"NAME" help:"Who decided it, for the record; your user name if not given."`
	Confirm   string `env:"-" placeholder:"TOKEN" help:"Do it: the token that was shown with what would be done."`
	JSON      bool   `env:"-" name:"json" help:"One JSON object a line."`
}

// Validate is called by kong.
func (c *dlqAnswer) Validate() error {
	if c.Limit < 1 || c.Limit > 100_000 {
		return errors.New("--limit must be 1 to 100000")
	}
	if len(c.Places) == 0 && !c.AllOpen && c.dlqFilter == (dlqFilter{}) {
		return errors.New("which dead letters? Give offsets, a filter such as --reason, or --all-open")
	}
	return nil
}

type (
	dlqReplayCmd struct {
		dlqAnswer `embed:""`
		Why       string `env:"-" placeholder:"TEXT" help:"Why, for the record."`
	}
	dlqDiscardCmd struct {
		dlqAnswer `embed:""`
		Why       string `env:"-" required:"" placeholder:"TEXT" help:"Why, for the record."`
	}
)

// Run shows what would be replayed, or replays it.
func (c *dlqReplayCmd) Run(e *env) error { return c.run(e, deadletters.Replayed, c.Why) }

// Run shows what would be discarded, or discards it.
func (c *dlqDiscardCmd) Run(e *env) error { return c.run(e, deadletters.Discarded, c.Why) }

func (c *dlqAnswer) run(e *env, status deadletters.Status, why string) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	filter.Places = c.Places
	topic, err := e.deadLetters()
	if err != nil {
		return err
	}
	if c.Confirm == "" {
		return c.dryRun(e, topic, filter, status)
	}
	mark := deadletters.Mark{Status: status, By: c.By, Why: why}
	if mark.By == "" {
		if u, err := user.Current(); err == nil {
			mark.By = u.Username
		}
	}
	done, err := topic.Answer(e.ctx, filter, mark, c.Limit, c.Confirm)
	if done > 0 || err == nil {
		fmt.Fprintf(e.stdout, "%s %d dead letters\n", status, done)
	}
	return err
}

func (c *dlqAnswer) dryRun(e *env, topic deadletters.Topic, filter deadletters.Filter, status deadletters.Status) error {
	cannot := 0
	plan, err := topic.Plan(e.ctx, filter, status, c.Limit, func(l *deadletters.Letter) error {
		if unreadable(l) != nil {
			cannot++
		}
		return e.printLetter(l, c.JSON)
	})
	if err != nil {
		return err
	}
	if plan.Count == 0 {
		if len(c.Places) > 0 {
			return errors.New("nothing to do: none of these is an open dead letter (`lotline dlq list --all` shows what became of them)")
		}
		return errors.New("nothing to do: no open dead letter is chosen")
	}
	out := e.stdout
	if c.JSON {
		out = e.stderr
	}
	if status == deadletters.Replayed {
		fmt.Fprintf(out, "\nNothing was done yet. These %d would go to %s again, as they came, and be marked as replayed.\n", plan.Count, topic.Commands)
		if cannot > 0 {
			fmt.Fprintf(out, "This version cannot read %d of them either: those would be dead letters again.\n", cannot)
		}
	} else {
		fmt.Fprintf(out, "\nNothing was done yet. These %d would be marked as discarded; they stay on the topic until its retention ends.\n", plan.Count)
	}
	if plan.More {
		fmt.Fprintf(out, "There are more: they are left for the next time, or raise --limit.\n")
	}
	fmt.Fprintf(out, "To do it, give the same command again with --confirm=%s\n", plan.Token())
	return nil
}
