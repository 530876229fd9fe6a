package rebuild

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/readmodel"
)

const (
	// looks is how often in a row a SKU must be found wrong, and wrongFor for how long: a block reaches a store's tables one
	// after the other, and a question may fall between them.
	looks     = 3
	wrongFor  = 3 * time.Second
	lookPause = 200 * time.Millisecond

	// SKUs are compared row by row in groups of at most so many, with at most about so many rows.
	groupSKUsMax = 200
	groupRowsMax = 200_000

	// skuRowsMax is how many rows of a SKU are listed.
	skuRowsMax = 20
)

// judge holds two generations against the write side.
type judge struct {
	Options
	write     *writeSide
	next      int
	live      int
	seed      maphash.Seed
	suspects  map[string]*suspect
	liveWrong map[string][]Fault
	size      map[string]int64 // rows of each SKU that differs
}

// suspect is a SKU of which the new generation does not have what the write side has.
type suspect struct {
	mark   uint64 // the version that the write side had when it was first asked: what the new one has to reach
	wrong  int    // how many looks in a row found it wrong
	since  time.Time
	faults []Fault
}

// surely reports whether it was found wrong often and for long enough.
func (s *suspect) surely() bool { return s.wrong >= looks && time.Since(s.since) >= wrongFor }

// total is what the rows of a SKU come to: they are combined by XOR, so their order does not matter.
type total struct {
	version uint64
	rows    int64
	sum     uint64
}

// compare asks all for everything once, and then looks at the SKUs that differ until each is found right or surely wrong.
//
// In each look the new generation is asked before the write side, so that whatever it has must be there: the write side
// is a snapshot of a later moment. What it lacks is explained if it is of a later version than the generation has come to
// for that SKU. So a SKU that never stands still can be judged too.
func compare(ctx context.Context, o Options, w *writeSide, next, live int) (*Report, error) {
	j := &judge{Options: o, write: w, next: next, live: live, seed: maphash.MakeSeed(), suspects: make(map[string]*suspect), liveWrong: make(map[string][]Fault), size: make(map[string]int64)}
	report := &Report{Store: o.Store.Name(), Generation: next, Live: live}
	liveDiffers, err := j.sums(ctx, report)
	if err != nil {
		return nil, err
	}
	report.SKUsDiffering = len(j.suspects)
	report.LiveDiffering = len(liveDiffers)
	deadline := time.Now().Add(o.Wait)
	for len(j.suspects) > 0 {
		if err := j.look(ctx, slices.Sorted(maps.Keys(j.suspects))); err != nil {
			return nil, err
		}
		if j.settled() || time.Now().After(deadline) && !j.undecided() {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the new generation to catch up: %w", context.Cause(ctx))
		case <-time.After(lookPause):
		}
	}
	for range looks { // of the live one: only what is wrong each time is
		if len(liveDiffers) == 0 {
			break
		}
		slices.Sort(liveDiffers)
		if liveDiffers, err = j.lookLive(ctx, liveDiffers); err != nil {
			return nil, err
		}
	}
	j.list(report, liveDiffers)
	return report, nil
}

// settled reports whether every suspect is surely wrong.
func (j *judge) settled() bool {
	for _, s := range j.suspects {
		if !s.surely() {
			return false
		}
	}
	return true
}

// undecided reports whether a suspect was found wrong, and not often enough to say so.
func (j *judge) undecided() bool {
	for _, s := range j.suspects {
		if s.wrong > 0 && !s.surely() {
			return true
		}
	}
	return false
}

// sums makes suspects of the SKUs whose rows come to something else in the new generation than on the write side, and
// returns those of which the live one does.
func (j *judge) sums(ctx context.Context, report *Report) (liveDiffers []string, err error) {
	next, err := j.totals(ctx, j.next)
	if err != nil {
		return nil, err
	}
	live, err := j.totals(ctx, j.live)
	if err != nil {
		return nil, err
	}
	should, err := j.writeTotals(ctx)
	if err != nil {
		return nil, err
	}
	skus := make(map[string]bool, len(should))
	for _, all := range []map[string]total{next, live, should} {
		for sku := range all {
			skus[sku] = true
		}
	}
	for sku := range skus {
		report.RowsCompared += should[sku].rows
		if next[sku] != should[sku] {
			j.suspects[sku] = new(suspect)
		}
		if live[sku] != should[sku] {
			liveDiffers = append(liveDiffers, sku)
		}
		if next[sku] != should[sku] || live[sku] != should[sku] {
			j.size[sku] = max(next[sku].rows, live[sku].rows, should[sku].rows)
		}
	}
	report.SKUs = len(skus)
	return liveDiffers, nil
}

func (j *judge) totals(ctx context.Context, generation int) (map[string]total, error) {
	all := make(map[string]total)
	if generation == 0 {
		return all, nil
	}
	err := j.Store.Read(ctx, generation, nil, func(rows *readmodel.State) error {
		j.add(all, rows)
		return nil
	})
	return all, err
}

func (j *judge) writeTotals(ctx context.Context) (map[string]total, error) {
	chunks, _, err := j.write.chunks(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[string]total)
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(j.Workers)
	for _, c := range chunks {
		group.Go(func() error {
			rows, err := j.write.readChunk(ctx, c)
			if err != nil {
				return err
			}
			part := make(map[string]total)
			j.add(part, rows)
			mu.Lock()
			defer mu.Unlock()
			for sku, t := range part {
				sum := all[sku]
				all[sku] = total{max(sum.version, t.version), sum.rows + t.rows, sum.sum ^ t.sum}
			}
			return nil
		})
	}
	return all, group.Wait()
}

// add adds rows to the totals of their SKUs. Lines without a batch do not count, nor does what only one side knows: times,
// commands and the versions of batches.
func (j *judge) add(to map[string]total, rows *readmodel.State) {
	var h maphash.Hash
	h.SetSeed(j.seed)
	put := func(sku string, version uint64, kind byte, numbers []int64, texts ...string) {
		h.Reset()
		_ = h.WriteByte(kind)
		var buf [8]byte
		for _, n := range numbers {
			binary.LittleEndian.PutUint64(buf[:], uint64(n))
			_, _ = h.Write(buf[:])
		}
		for _, text := range texts {
			binary.LittleEndian.PutUint64(buf[:], uint64(len(text)))
			_, _ = h.Write(buf[:])
			_, _ = h.WriteString(text)
		}
		t := to[sku]
		to[sku] = total{max(t.version, version), t.rows + 1, t.sum ^ h.Sum64()}
	}
	var numbers [3]int64
	for i := range rows.SKUs {
		r := &rows.SKUs[i]
		numbers = [3]int64{int64(r.Version), r.Available}
		put(r.SKU, r.Version, 's', numbers[:], r.SKU)
	}
	for i := range rows.Batches {
		r := &rows.Batches[i]
		numbers = [3]int64{int64(r.Qty), int64(r.Available)}
		put(r.SKU, 0, 'b', numbers[:], r.SKU, r.Ref, r.ETA)
	}
	for i := range rows.Refs {
		put(rows.Refs[i].SKU, 0, 'r', nil, rows.Refs[i].SKU, rows.Refs[i].Ref)
	}
	for i := range rows.Lines {
		r := &rows.Lines[i]
		if r.BatchRef == "" {
			continue
		}
		numbers = [3]int64{int64(r.Version), int64(r.Qty)}
		put(r.SKU, 0, 'l', numbers[:], r.OrderID, r.SKU, r.BatchRef, r.ETA)
	}
}

// groups cuts SKUs, in order, so that the rows of a group have room in memory.
func (j *judge) groups(skus []string) (all [][]string) {
	var rows int64
	for _, sku := range skus {
		last := len(all) - 1
		n := j.size[sku]
		if last < 0 || len(all[last]) == groupSKUsMax || rows+n > groupRowsMax {
			all, rows, last = append(all, nil), 0, last+1
		}
		all[last] = append(all[last], sku)
		rows += n
	}
	return all
}

// look compares SKUs row by row in the new generation, and forgets those that are right.
func (j *judge) look(ctx context.Context, skus []string) error {
	for _, group := range j.groups(skus) {
		found, should, err := j.rows(ctx, j.next, group)
		if err != nil {
			return err
		}
		for _, sku := range group {
			s, is, must := j.suspects[sku], found.of(sku), should.of(sku)
			if s.mark == 0 {
				s.mark = must.version
			}
			s.faults = unexplained(sku, is, must)
			switch {
			case len(s.faults) > 0:
				if s.wrong++; s.wrong == 1 {
					s.since = time.Now()
				}
			case is.version >= s.mark:
				delete(j.suspects, sku)
			default: // behind, and so far nothing says that it stays so
				s.wrong = 0
				s.faults = []Fault{{SKU: sku, Is: fmt.Sprintf("version %d", is.version), Should: fmt.Sprintf("version %d at least, and has not caught up", s.mark)}}
			}
		}
	}
	return nil
}

// lookLive returns the SKUs of which the live generation has rows that nothing explains, and keeps what they are for as
// many as are listed.
func (j *judge) lookLive(ctx context.Context, skus []string) (wrong []string, err error) {
	clear(j.liveWrong)
	for i, group := range j.groups(skus) {
		if i*groupSKUsMax >= j.SKUsMax {
			return append(wrong, group...), nil // not looked into
		}
		found, should, err := j.rows(ctx, j.live, group)
		if err != nil {
			return nil, err
		}
		for _, sku := range group {
			if faults := unexplained(sku, found.of(sku), should.of(sku)); len(faults) > 0 {
				j.liveWrong[sku] = faults
				wrong = append(wrong, sku)
			}
		}
	}
	return wrong, nil
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
func (j *judge) list(report *Report, liveDiffers []string) {
	for _, sku := range slices.Sorted(maps.Keys(j.suspects)) {
		report.Unexplained += len(j.suspects[sku].faults)
		if len(skusIn(report.New)) < j.SKUsMax {
			report.New = append(report.New, first(j.suspects[sku].faults)...)
		}
	}
	report.SKUsUnexplained = len(j.suspects)
	report.LiveWrong = len(liveDiffers)
	for _, sku := range slices.Sorted(maps.Keys(j.liveWrong)) {
		if len(skusIn(report.OfLive)) < j.SKUsMax {
			report.OfLive = append(report.OfLive, first(j.liveWrong[sku])...)
		}
	}
	byName := func(a, b Fault) int { return cmp.Or(strings.Compare(a.SKU, b.SKU), strings.Compare(a.Row, b.Row)) }
	slices.SortFunc(report.New, byName)
	slices.SortFunc(report.OfLive, byName)
}

// first returns as many of a SKU's rows as are listed.
func first(faults []Fault) []Fault { return faults[:min(len(faults), skuRowsMax)] }
