package rebuild

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
)

// lookPause is between two looks at the SKUs that differ.
const lookPause = 200 * time.Millisecond

// judge holds two generations against the write side.
type judge struct {
	Options
	write      *writeSide
	next, live *trial
}

// compare adds up all rows once, and then looks at the SKUs that differ until each is found right or surely wrong.
func compare(ctx context.Context, o Options, w *writeSide, next, live int) (*Report, error) {
	began := time.Now()
	j := &judge{Options: o, write: w, next: newTrial(next, min(wrongFor, o.Wait)), live: newTrial(live, 0)}
	report := &Report{Store: o.Store.Name(), Generation: next, Live: live}
	if err := j.addUp(ctx, report); err != nil {
		return nil, err
	}
	report.SumSeconds = time.Since(began).Seconds()
	j.step("added up; looking row by row at %d SKUs, until they have caught up (--wait)", len(j.next.suspects)+len(j.live.suspects))
	deadline := time.Now().Add(o.Wait)
	j.next.first = deadline
	for {
		if err := j.look(ctx); err != nil {
			return nil, err
		}
		// Who has come to the first mark in time has as long for the second.
		if second := j.next.doubted.Add(o.Wait); second.After(deadline) {
			deadline = second
		}
		if j.decided(time.Since(deadline)) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the new generation to catch up: %w", context.Cause(ctx))
		case <-time.After(lookPause):
		}
		// What is found wrong while a block is half in may be right once it is in.
		if err := o.Store.Settle(ctx); err != nil {
			return nil, err
		}
	}
	j.list(report)
	return report, nil
}

// Compare holds the live generation against the write side, as Run does the next one, and changes nothing. It reads
// o.Store, o.PostgresURL and what bounds a comparison.
func Compare(ctx context.Context, o Options) (*Report, error) {
	began := time.Now()
	_, live, err := o.Store.List(ctx)
	if err != nil {
		return nil, err
	}
	w, err := openWriteSide(ctx, o.PostgresURL, o.CommandsTopic, 1)
	if err != nil {
		return nil, err
	}
	defer w.close()
	report, err := compare(ctx, o, w, live, 0)
	if err != nil {
		return nil, fmt.Errorf("compare %s with the write side: %w", o.Store.Name(), err)
	}
	report.CompareSeconds = time.Since(began).Seconds()
	return report, nil
}

// addUp makes suspects of the SKUs whose rows come to something else in a generation than on the write side.
func (j *judge) addUp(ctx context.Context, report *Report) error {
	var next, live, should totals
	group, adding := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		if next, err = totalsOf(adding, j.Store, j.next.generation); err != nil {
			return err
		}
		live, err = totalsOf(adding, j.Store, j.live.generation)
		return err
	})
	group.Go(func() (err error) {
		should, err = j.write.totals(adding)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	skus := make(map[string]bool, len(should))
	for _, all := range []totals{next, live, should} {
		for sku := range all {
			skus[sku] = true
		}
	}
	report.SKUs = len(skus)
	liveMax := max(j.SKUsMax, groupSKUsMax)
	for _, sku := range slices.Sorted(maps.Keys(skus)) {
		report.RowsCompared += should[sku].Rows
		if next[sku] != should[sku] {
			report.SKUsDiffering++
			j.next.suspect(sku, max(next[sku].Rows, should[sku].Rows))
		}
		if live[sku] != should[sku] && j.live.generation > 0 {
			if report.LiveDiffering++; report.LiveDiffering <= liveMax { // others are not looked into
				j.live.suspect(sku, max(live[sku].Rows, should[sku].Rows))
			}
		}
	}
	report.LiveWrong = max(0, report.LiveDiffering-liveMax)
	return nil
}

// look looks once at the suspects of both generations that are not yet surely wrong.
func (j *judge) look(ctx context.Context) error {
	for _, t := range []*trial{j.next, j.live} {
		for _, group := range t.groups() {
			found, should, err := j.rows(ctx, t.generation, group)
			if err != nil {
				return err
			}
			for _, sku := range group {
				t.judge(sku, found.of(sku), should.of(sku))
			}
		}
	}
	// The live one may well be behind, and need not be caught up with.
	maps.DeleteFunc(j.live.suspects, func(_ string, s *suspect) bool { return s.wrong == 0 })
	return nil
}

// decided reports whether there is nothing to wait for. The wait is for what is behind; what was found wrong gets the time
// that it takes to say so.
func (j *judge) decided(late time.Duration) bool {
	if j.next.settled() && j.live.settled() {
		return true
	}
	return late > 0 && (!j.next.undecided() && !j.live.undecided() || late > 2*wrongFor)
}

// rows reads SKUs from a generation, and then from the write side.
func (j *judge) rows(ctx context.Context, generation int, skus []string) (found, should sides, err error) {
	found, should = make(sides), make(sides)
	var lines []readmodel.LineKey
	if generation > 0 {
		if err := j.Store.Read(ctx, generation, skus, func(rows *readmodel.State) error {
			found.add(rows)
			for i := range rows.Lines {
				lines = append(lines, readmodel.LineKey{OrderID: rows.Lines[i].OrderID, SKU: rows.Lines[i].SKU})
			}
			return nil
		}); err != nil {
			return nil, nil, err
		}
	}
	rows, err := j.write.readSKUs(ctx, skus, lines)
	if err != nil {
		return nil, nil, err
	}
	should.add(rows)
	return found, should, nil
}

// list writes down what was found.
func (j *judge) list(report *Report) {
	report.New, report.Unexplained = j.next.faults(j.SKUsMax)
	report.SKUsUnexplained = len(j.next.suspects)
	report.OfLive, _ = j.live.faults(j.SKUsMax)
	report.LiveWrong += len(j.live.suspects)
	byName := func(a, b Fault) int { return cmp.Or(strings.Compare(a.SKU, b.SKU), strings.Compare(a.Row, b.Row)) }
	slices.SortFunc(report.New, byName)
	slices.SortFunc(report.OfLive, byName)
}
