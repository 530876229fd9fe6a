package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lotline/lotline/tests/verify"
	"github.com/lotline/lotline/tests/workload"
)

// Drill is an exercise: faults are injected into a pipeline under load, which must come out whole. After it everything
// is healed, and what is left is judged twice: row by row by tests/verify, which also scans the events
// (read_committed) for lost and doubled ones and holds the dead letters against the unreadable commands, and by
// `lotline verify`.
//
// A file drills_….go has the drills of one kind; a new one is added to Drills.
type Drill struct {
	Name   string
	Shows  string // a sentence
	Inject func(ctx context.Context, f *Field) error
}

// Drills are all there are, in the order in which they are run.
var Drills = []Drill{
	{"postgres-killed", "Postgres is killed under load and comes back: allocators wait, name it, and go on.", serverKilled(postgres)},
	{"clickhouse-killed", "ClickHouse is killed under load and comes back: the projector waits, names it, and goes on.", serverKilled(clickHouse)},
	{"kafka-killed", "Kafka is killed under load and comes back: all services wait, name it, and go on.", serverKilled(kafka)},
	{"away-at-start", "Every server is away when the services start: they wait, name it, and begin by themselves.", awayAtStart},
	{"connections", "Connections are slow, reset, cut in the middle of a message and swallowed, to each server in turn.", badConnections},
	{"zombie-allocator", "An allocator is stopped past every timeout and wakes after another took over: it is refused and rejoins.", zombie("allocator")},
	{"zombie-projector", "A projector is stopped past every timeout and wakes after another took over: it is refused and rejoins.", zombie("projector")},
	{"rolling-restart", "Allocators and projectors are stopped and started one after the other under load.", rollingRestart},
	{"partitions-added", "Both topics get more partitions under load, so that SKUs move to other partitions.", partitionsAdded},
	{"mixed-producers", "Producers partition the same SKUs by murmur2 and by CRC32: two allocators decide them side by side, fast and in order.", mixedProducers},
	{"clickhouse-wiped", "ClickHouse's database is dropped: made again, it is filled from the events.", clickHouseWiped},
	{"postgres-restored", "Postgres is restored from an earlier base backup while Kafka has gone on: it replays to the same state, and nothing is published twice.", postgresRestored},
	{"postgres-frozen-holder", "An allocator is stopped while it holds locks in Postgres: they end, and its successor decides what was its.", frozenHolder},
	{"group-offsets-deleted", "The offsets of the allocators' group are deleted after a clean stop: nothing is published twice, and nothing is lost.", groupOffsetsDeleted},
	{"commands-truncated", "Commands are deleted before they were decided: their partition halts by name, and goes on after `lotline offsets skip`.", commandsTruncated},
	{"topic-recreated", "The commands topic is deleted and made anew: its partitions halt by name, and adopt it by `lotline offsets skip`.", topicRecreated},
	{"undecompressable", "A record inflates to more than clients hold: its partition halts by name, and goes on after `lotline offsets skip`.", undecompressable},
	{"poison-flood", "A flood of records that nobody can read comes among good ones: each is one dead letter.", poisonFlood},
	{"hostile-sizes", "Records of 1 MiB, records that inflate to 12 MiB, thousands of headers, and clocks that are years off.", hostileSizes},
}

// Effect is an injected fault and what showed that it took effect.
type Effect struct {
	Fault, Evidence string
}

// DrillResult is how a drill ended.
type DrillResult struct {
	Drill    Drill
	Effects  []Effect
	Measured []string
	Report   *verify.Report
	Took     time.Duration
	Err      error // nil: it came out whole
}

// DrillOptions say how hard to drill.
type DrillOptions struct {
	Outage   time.Duration // how long a server is away
	Commands int           // of the load that goes on meanwhile
	Flood    int           // unreadable records of poison-flood
	Mixed    int           // commands of each of the three parts of mixed-producers
	Seed     uint64
}

const settleWithin = 3 * time.Minute

// Run does the drill on a pipeline of its own.
func (d Drill) Run(ctx context.Context, hosts *Hosts, bin string, o DrillOptions, out io.Writer) DrillResult {
	result := DrillResult{Drill: d}
	began := time.Now()
	err := hosts.heal(ctx)
	var f *Field
	if err == nil {
		f, err = newField(ctx, hosts, bin, o, out)
	}
	if err == nil {
		defer f.close()
		err = errors.Join(f.drill(ctx, d), hosts.heal(ctx))
		result.Effects, result.Measured, result.Report = f.effects, f.measured, f.report
	}
	if err != nil {
		err = fmt.Errorf("drill %s: %w", d.Name, err)
	}
	result.Took, result.Err = time.Since(began), err
	return result
}

func (f *Field) drill(ctx context.Context, d Drill) error {
	lines, _ := workload.Lines(workload.Mix{Seed: f.options.Seed, Commands: f.options.Commands, SKUs: 50})
	if err := f.startAll(ctx); err != nil {
		return err
	}
	if err := f.warm(ctx); err != nil {
		return err
	}
	// The first part makes the batches; the second comes while the faults are there, the third after them.
	thirds := [3][]string{lines[:len(lines)/3], lines[len(lines)/3 : 2*len(lines)/3], lines[2*len(lines)/3:]}
	if err := f.send(ctx, thirds[0]); err != nil {
		return err
	}
	f.during = thirds[1]
	if err := d.Inject(ctx, f); err != nil {
		return err
	}
	if len(f.during) > 0 {
		return errors.New("the drill sent nothing while its faults were there")
	}
	if err := f.send(ctx, thirds[2]); err != nil {
		return err
	}
	return f.judge(ctx)
}

func (f *Field) judge(ctx context.Context) error {
	if len(f.effects) == 0 {
		return errors.New("no fault was injected")
	}
	for _, e := range f.effects {
		if e.Evidence == "" {
			return fmt.Errorf("the fault %q did not take effect", e.Fault)
		}
	}
	settling, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	var err error
	if f.report, err = verify.Run(settling, f.target); err != nil {
		return err
	}
	if err := f.report.Err(); err != nil {
		return fmt.Errorf("%w (logs in %s)", err, f.dir)
	}
	if output, err := f.command(settling, "lotline", "verify").CombinedOutput(); err != nil {
		return fmt.Errorf("lotline verify: %w:\n%s", err, output)
	}
	return f.readyAgain(settling)
}

// load sends the lines that are to come while the faults are there; wait returns once they are sent.
func (f *Field) load(ctx context.Context) (wait func() error) { return f.loadOver(ctx, 0) }

// loadOver is load of lines that come evenly over a while.
func (f *Field) loadOver(ctx context.Context, while time.Duration) (wait func() error) {
	lines := f.during
	f.during = nil
	sent := make(chan error, 1)
	go func() { sent <- f.sendOver(ctx, lines, while) }()
	return func() error { return <-sent }
}

// took notes that a fault took effect, and what showed it.
func (f *Field) took(fault, evidence string, args ...any) {
	e := Effect{fault, fmt.Sprintf(evidence, args...)}
	f.effects = append(f.effects, e)
	fmt.Fprintf(f.out, "  %s: %s\n", e.Fault, e.Evidence)
}

func (f *Field) measure(what string, d time.Duration) {
	f.measured = append(f.measured, fmt.Sprintf("%s %s", what, d.Round(time.Millisecond)))
}

// PrintDrills writes what the drills showed, a table for people.
func PrintDrills(out io.Writer, results []DrillResult) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DRILL\tRESULT\tTOOK\tFAULTS THAT TOOK EFFECT\tMEASURED")
	for _, r := range results {
		verdict := "whole"
		if r.Err != nil {
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", r.Drill.Name, verdict, r.Took.Round(time.Second), len(r.Effects), strings.Join(r.Measured, ", "))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		for _, e := range r.Effects {
			fmt.Fprintf(out, "%s: %s: %s\n", r.Drill.Name, e.Fault, e.Evidence)
		}
		if r.Err != nil {
			fmt.Fprintf(out, "%s: FAILED: %v\n", r.Drill.Name, r.Err)
		}
	}
	return nil
}
