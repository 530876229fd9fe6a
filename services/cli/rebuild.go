package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/services/projector"
)

// progressEvery is between two lines about how far a rebuild is, and progressOnTerminal between two looks of a person.
const (
	progressEvery      = 10 * time.Second
	progressOnTerminal = 500 * time.Millisecond
)

// rebuildCmd has the flags of the services whose stores it reads and builds.
type rebuildCmd struct {
	postgresclient.Settings `embed:"" group:"Postgres:"`
	stores.Config           `embed:"" group:"Read model:"`
	Model                   string        `env:"-" placeholder:"STORE" help:"The same as --read-model."`
	From                    string        `env:"-" enum:"state,events," default:"" help:"What to fill the next generation from: state (what Postgres has) or events (the topic, and of ClickHouse what only its own log still has)."`
	Rollback                bool          `env:"-" help:"Switch readers back to the generation that is kept beside the live one."`
	Drop                    bool          `env:"-" help:"End the generation beside the live one: the old one after a switch, or one that was not taken."`
	RowsPerSecondMax        int           `env:"-" default:"0" placeholder:"N" help:"Load no more rows, or events, in a second than this; 0 = as many as can be."`
	Workers                 int           `env:"-" default:"4" placeholder:"N" help:"From state: how many parts of the tables are read and loaded at once, 1 to 32. Each takes about 40 MiB of memory, 120 if it is slowed, and two connections to Postgres."`
	Wait                    time.Duration `env:"-" default:"60s" help:"How long the next generation may take to catch up with what is published, and as long once more for rows in doubt."`
	SKUsMax                 int           `env:"-" name:"skus-max" default:"100" placeholder:"N" help:"Of how many SKUs that differ the rows are listed."`
	JSON                    bool          `env:"-" help:"Print one JSON object instead of text."`
}

// Help is shown below the flags' own.
func (rebuildCmd) Help() string {
	return `Makes the next generation of the read model beside the one that is asked, while events and questions flow. Once it is filled
and has caught up, it is compared with the write side row by row, as is the live one; what differs is printed. Only if nothing
about the new one is unexplained are readers switched to it. The old one is kept up to date beside it until --drop, so that
--rollback can switch back.

If it is interrupted or killed, run it again: it goes on where it was. --from=state is fast and needs no history; --from=events
also fills the outcomes of commands, and ClickHouse's log of events, where they are empty, as far as the topic reaches back.

On a cluster of ClickHouse everything needs all hosts. If one goes away in the middle, run the same again when it is back: until then
some readers may be answered from the old generation and some from the new one, and the switch counts as not done.

Exit codes: 0 switched, or done; 1 not switched, since the new generation differs; 2 it could not.`
}

// Validate names the faults of the read model's settings; kong asks Settings by itself.
func (c *rebuildCmd) Validate() error { return c.readModel().CheckKept() }

// readModel is the settings of the read model that is to be rebuilt.
func (c *rebuildCmd) readModel() stores.Config {
	chosen := c.Config
	if c.Model != "" {
		chosen.ReadModel = c.Model
	}
	return chosen
}

// Run rebuilds, switches back or drops.
func (c *rebuildCmd) Run(e *env) error {
	switch {
	case c.Rollback && c.Drop || c.From != "" && (c.Rollback || c.Drop):
		return exit{exitUsage, errors.New("--from, --rollback and --drop are three different things: say one of them")}
	case c.Rollback:
		return c.tell(e, "switching readers back, which waits for blocks or questions that are under way", "readers are answered from generation %d\n", projector.RollBack)
	case c.Drop:
		return c.tell(e, "ending the generation beside the live one, which waits for blocks or questions that are under way", "generation %d is gone\n", projector.DropGeneration)
	case c.From == "":
		return exit{exitUsage, errors.New("say what to fill the next generation from, --from=state or --from=events; or --rollback, or --drop")}
	}
	client, err := e.connect()
	if err != nil {
		return exit{exitUsage, err}
	}
	client.Close()
	shown := newProgress(e.stderr)
	report, err := projector.Rebuild(e.ctx, projector.RebuildConfig{
		Kafka: e.kafka, ReadModel: c.readModel(), Postgres: c.Settings, From: c.From, Workers: c.Workers,
		RowsPerSecondMax: c.RowsPerSecondMax, Wait: c.Wait, SKUsMax: c.SKUsMax, Progress: shown.show,
	})
	shown.end()
	if err != nil {
		return exit{exitUsage, err}
	}
	if c.JSON {
		if err := json.NewEncoder(e.stdout).Encode(report); err != nil {
			return exit{exitUsage, err}
		}
	} else {
		report.Print(e.stdout)
	}
	if !report.OK() {
		return exit{exitFailed, nil}
	}
	return nil
}

func (c *rebuildCmd) tell(e *env, doing, done string, do func(ctx context.Context, cfg stores.Config) (int, error)) error {
	shown := newProgress(e.stderr)
	shown.show(projector.RebuildProgress{Step: doing})
	generation, err := do(e.ctx, c.readModel())
	shown.end()
	if err != nil {
		return exit{exitUsage, err}
	}
	fmt.Fprintf(e.stdout, done, generation)
	return nil
}

// progress writes how far it is: over and over in one line for a person, now and then a line for a log.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	first    int64 // what earlier runs had done
	told     time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out: out, terminal: isTerminal(out)} }

func (p *progress) show(now projector.RebuildProgress) {
	if now.Step != "" {
		p.line(now.Step)
		return
	}
	if p.began.IsZero() {
		p.began, p.told, p.first = time.Now(), time.Now(), now.Done
		return
	}
	every := progressEvery
	if p.terminal {
		every = progressOnTerminal
	}
	if time.Since(p.told) < every {
		return
	}
	p.told = time.Now()
	rate := float64(now.Done-p.first) / time.Since(p.began).Seconds()
	left := ""
	if rate > 0 && now.Total > now.Done {
		left = ", " + time.Duration(float64(now.Total-now.Done)/rate*float64(time.Second)).Round(time.Second).String() + " left"
	}
	p.line(fmt.Sprintf("loaded %d of about %d %s, %.0f/s%s", now.Done, now.Total, now.Unit, rate, left))
}

func (p *progress) line(text string) {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K"+text)
		return
	}
	fmt.Fprintln(p.out, text)
}

// end clears a person's line.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
