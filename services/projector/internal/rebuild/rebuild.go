// Package rebuild makes the next generation of a read model beside the one that is asked, holds it against the write side
// and switches readers to it. DESIGN.md, "Rebuild", argues why what it makes is right while everything runs.
//
// The projector's root calls it for the operator's `lotline rebuild`. It knows stores by readmodel alone, reads the write
// side's tables by SQL of its own, and may import readmodel, eventlog, pkg and the Postgres client.
package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/readmodel"
)

// Sources of a generation.
const (
	FromState  = "state"
	FromEvents = "events"
)

// Options say what to rebuild. The connections are the caller's to close.
type Options struct {
	Store readmodel.Generations
	// Writer is the store's, by which events reach all of its generations.
	Writer readmodel.Writer
	// PostgresURL is the write side's.
	PostgresURL string
	Kafka       []kgo.Opt
	EventsTopic string
	// CommandsTopic is part of the ids of commands that came without one.
	CommandsTopic string
	// From is FromState or FromEvents.
	From string
	// Workers is how many parts of the state are read and loaded at once.
	Workers int
	// RowsPerSecondMax bounds what is loaded, in rows or events; 0: no bound.
	RowsPerSecondMax int
	// Wait is how long the new generation is given to catch up before it is judged.
	Wait time.Duration
	// SKUsMax bounds the SKUs that differ and whose rows are listed, in each generation.
	SKUsMax int
	// Progress is told how far the filling is, and then which step comes next, from several goroutines but never at once.
	Progress func(Progress)
}

// Progress is how far the filling is, or what comes after it. Total is an estimate.
type Progress struct {
	Done, Total int64
	Unit        string // rows, events
	Step        string // what has begun, for people, once all is filled; then there is nothing else
}

// step says what begins.
func (o *Options) step(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(Progress{Step: fmt.Sprintf(format, args...)})
	}
}

// Marks of a generation.
const (
	markFrom     = "from"     // what it is filled from
	markFilled   = "filled"   // everything is loaded
	markSwitched = "switched" // it has been the live one
	markLacking  = "lacking"  // the notes of what the store lacked that it makes up for, as JSON, until they are taken back
	markMadeUp   = "made_up"  // and from then on: what a generation from before it lacks
)

type rebuild struct {
	Options
	log        *slog.Logger
	generation int
	marks      map[string]string
	pace       *pace
	done       counter

	reading, loading time.Duration // from state, of all workers
}

// Run makes a generation, or goes on with one that was broken off, compares it and switches if nothing speaks against it.
// An error says that it could not; what differs is in the report.
func Run(ctx context.Context, o Options, log *slog.Logger) (*Report, error) {
	began := time.Now()
	r := &rebuild{Options: o, log: log, pace: &pace{perSecond: o.RowsPerSecondMax}}
	live, err := r.choose(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill generation %d of %s: %w (run it again to go on)", r.generation, o.Store.Name(), err)
	}
	filled := time.Now()
	lacking, err := r.lacking(ctx)
	if err != nil {
		return nil, err
	}
	w, err := openWriteSide(ctx, o.PostgresURL, o.CommandsTopic, 1)
	if err != nil {
		return nil, err
	}
	defer w.close()
	o.step("filled; adding up the rows of generation %d and of the write side", r.generation)
	report, err := compare(ctx, o, w, r.generation, live)
	if err != nil {
		return nil, fmt.Errorf("compare generation %d of %s: %w (run it again to go on)", r.generation, o.Store.Name(), err)
	}
	report.Rows, report.Unit = r.done.rows, r.done.unit
	report.FillSeconds, report.CompareSeconds = filled.Sub(began).Seconds(), time.Since(filled).Seconds()
	report.ReadSeconds, report.LoadSeconds = r.reading.Seconds(), r.loading.Seconds()
	if !report.OK() {
		return report, nil
	}
	compared := time.Now()
	if err := o.Store.Mark(ctx, r.generation, markLacking, lacking); err != nil {
		return nil, err
	}
	o.step("compared; switching readers to generation %d, which waits for blocks or questions that are under way", r.generation)
	if err := o.Store.Switch(ctx, r.generation); err != nil {
		return nil, fmt.Errorf("switch %s to generation %d: %w", o.Store.Name(), r.generation, err)
	}
	report.Switched, report.SwitchSeconds = true, time.Since(compared).Seconds()
	return report, errors.Join(o.Store.Mark(ctx, r.generation, markSwitched, ""), r.returned(ctx, r.generation))
}

// lackingMax bounds the notes that a rebuild takes back. More are left to the next one.
const lackingMax = 10_000

// ledgerOf returns the store's notes of what it lacks if a new generation makes up for that, or nil: not where a log of events
// is kept, which would still lack it.
func ledgerOf(store readmodel.Generations, writer readmodel.Writer) readmodel.Ledger {
	if _, logged := store.(readmodel.Logged); logged {
		return nil
	}
	ledger, _ := writer.(readmodel.Ledger)
	return ledger
}

// lacking returns the store's notes as JSON, or nothing if there are none. They are read before the comparison, which finds what
// they are about there. What is noted later may be lacking in the new generation too.
func (r *rebuild) lacking(ctx context.Context) (notes string, err error) {
	ledger := ledgerOf(r.Store, r.Writer)
	if ledger == nil {
		return "", nil
	}
	noted, _, err := ledger.Asides(ctx, readmodel.Aside{}, lackingMax)
	if err != nil {
		return "", fmt.Errorf("ask %s what it lacks: %w", r.Store.Name(), err)
	}
	if len(noted) == 0 {
		return "", nil
	}
	for i := range noted { // what tells notes apart is enough
		noted[i].Reason, noted[i].Event = "", ""
	}
	text, err := json.Marshal(noted)
	return string(text), err
}

// returned takes back what a generation that is live makes up for. The notes are marked before it is switched to, so that the
// next run finds them if this one dies in between.
func (r *rebuild) returned(ctx context.Context, live int) error {
	ledger := ledgerOf(r.Store, r.Writer)
	if ledger == nil {
		return nil
	}
	marks, err := r.Store.Marks(ctx, live)
	if err != nil || marks[markLacking] == "" {
		return err
	}
	noted, err := notesOf(marks, markLacking, live)
	if err != nil {
		return err
	}
	if err := ledger.Returned(ctx, noted); err != nil {
		return err
	}
	return errors.Join(r.Store.Mark(ctx, live, markMadeUp, marks[markLacking]), r.Store.Mark(ctx, live, markLacking, ""))
}

// notesOf reads the notes in a mark of a generation.
func notesOf(marks map[string]string, mark string, generation int) (noted []readmodel.Aside, err error) {
	if marks[mark] == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(marks[mark]), &noted); err != nil {
		return nil, fmt.Errorf("read the mark %q of generation %d: %w", mark, generation, err)
	}
	return noted, nil
}

// choose begins the next generation, or finds the one that is being made.
func (r *rebuild) choose(ctx context.Context) (live int, err error) {
	all, live, err := r.Store.List(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.returned(ctx, live); err != nil {
		return 0, err
	}
	next := 1
	for _, n := range all {
		next = max(next, n+1)
	}
	for _, n := range all {
		if n == live {
			continue
		}
		marks, err := r.Store.Marks(ctx, n)
		if err != nil {
			return 0, err
		}
		if _, switched := marks[markSwitched]; switched || n < live {
			return 0, fmt.Errorf("generation %d of %s is still there beside the live one, %d: end it with --drop, or go back to it with --rollback", n, r.Store.Name(), live)
		}
		if from := marks[markFrom]; from != "" && from != r.From {
			return 0, fmt.Errorf("generation %d of %s is being made with --from=%s: go on with that, or end it with --drop", n, r.Store.Name(), from)
		}
		next = n
	}
	r.generation = next
	if err := r.Store.Begin(ctx, next); err != nil {
		return 0, fmt.Errorf("begin generation %d of %s: %w", next, r.Store.Name(), err)
	}
	if r.marks, err = r.Store.Marks(ctx, next); err != nil {
		return 0, err
	}
	return live, r.Store.Mark(ctx, next, markFrom, r.From)
}

func (r *rebuild) fill(ctx context.Context) error {
	if _, filled := r.marks[markFilled]; filled {
		return nil
	}
	from := r.fromState
	if r.From == FromEvents {
		from = r.fromEvents
	}
	if err := from(ctx); err != nil {
		return err
	}
	return r.Store.Mark(ctx, r.generation, markFilled, "")
}

// outageMax is how long the store may be away before the rebuild gives up. It can be gone on with.
const outageMax = 2 * time.Minute

// retry does what is safe to repeat until it succeeds.
func (r *rebuild) retry(ctx context.Context, what string, do func(context.Context) error) error {
	var since time.Time
	return fault.Retry(ctx, r.log, what+" of "+r.Store.Name(), func(ctx context.Context) error {
		err := do(ctx)
		if err != nil && since.IsZero() {
			since = time.Now()
		}
		if err != nil && time.Since(since) > outageMax {
			return fault.Permanent(err)
		}
		return err
	})
}

// progress tells how far it is.
func (r *rebuild) progress(rows, total int64, unit string) {
	r.done = counter{rows, unit}
	if r.Progress != nil {
		r.Progress(Progress{Done: rows, Total: max(rows, total), Unit: unit})
	}
}

type counter struct {
	rows int64
	unit string
}

// Back switches readers to the generation that soaks beside the live one, and returns which that is. What the older of the two lacks,
// since only the newer one makes up for it, is noted again as long as readers are answered from it.
func Back(ctx context.Context, store readmodel.Generations, writer readmodel.Writer) (int, error) {
	other, live, err := beside(ctx, store)
	if err != nil {
		return 0, err
	}
	newer := max(other, live)
	marks, err := store.Marks(ctx, newer)
	if err != nil {
		return 0, err
	}
	if _, switched := marks[markSwitched]; !switched && newer == other {
		return 0, fmt.Errorf("generation %d of %s was never live: it is still being made, or was not taken. Go on with it, or end it with --drop", other, store.Name())
	}
	var lacked []readmodel.Aside
	ledger := ledgerOf(store, writer)
	if ledger != nil {
		if lacked, err = notesOf(marks, markMadeUp, newer); err != nil {
			return 0, err
		}
	}
	if newer == live && len(lacked) > 0 {
		for i := range lacked {
			lacked[i].Reason = fmt.Sprintf("generation %d, which readers are answered from again, was made before it was mended", other)
		}
		if err := ledger.SetAside(ctx, lacked); err != nil {
			return 0, err
		}
	}
	if err := store.Switch(ctx, other); err != nil {
		return 0, err
	}
	if newer == other && len(lacked) > 0 {
		return other, ledger.Returned(ctx, lacked)
	}
	return other, nil
}

// Drop ends the generation beside the live one, and returns which that was.
func Drop(ctx context.Context, store readmodel.Generations) (int, error) {
	other, _, err := beside(ctx, store)
	if err != nil {
		return 0, err
	}
	return other, store.Drop(ctx, other)
}

func beside(ctx context.Context, store readmodel.Generations) (other, live int, err error) {
	all, live, err := store.List(ctx)
	if err != nil {
		return 0, 0, err
	}
	all = slices.DeleteFunc(all, func(n int) bool { return n == live })
	if len(all) == 0 {
		return 0, 0, errors.New("there is no generation of " + store.Name() + " beside the live one, " + strconv.Itoa(live))
	}
	return all[0], live, nil
}
