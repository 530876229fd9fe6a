package rebuild

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// looks is how often in a row a row must be found wrong.
	looks = 3
	// wrongFor is for how long, in the new generation, or for as long as it may take to catch up if that is less: a block
	// that the store took half before it failed is applied again. A projector waits for that for 5 s at most, and half as long
	// again by chance, and as long once more at a store that is overloaded.
	wrongFor = 15 * time.Second

	// SKUs are compared row by row in groups of at most so many, with at most about so many rows.
	groupSKUsMax = 2000
	groupRowsMax = 200_000

	// skuRowsMax is how many rows of a SKU are listed.
	skuRowsMax = 20
)

// trial is a generation that is held against the write side.
//
// In each look the generation is asked before the write side, so that whatever it has must be there: the write side is a
// snapshot of a later moment. What it lacks is explained if it is of a later version than the generation has come to for
// that SKU. So a SKU that never stands still can be judged too.
//
// But a block does not reach a store's tables at one moment, and a look may fall between them: the SKU says version 9
// already, and the line that version 9 allocated is not there. The store lets every such block end before the next look. A
// row that the block was to change is then of a newer version, or there, so the same fault in the same row, twice, is
// none of a block's. Later blocks may make other rows look wrong in the next look. So only rows that are found wrong in
// the same way each time are wrong.
//
// Not of every row the write side knows a version. A SKU that is never quite caught up with could hide for ever that such a row
// lacks a change of long ago: its line lost its batch at version 3, the generation never heard of it, and at each look it is
// some versions behind, one of which might be the one. So what such rows should be is remembered, and at which version of
// the SKU. Once the generation has come to that, a row must be that, or have changed since.
type trial struct {
	generation int
	wrongFor   time.Duration
	suspects   map[string]*suspect
	first      time.Time // until when suspects that get their second mark have time for it
	doubted    time.Time // when one last got it in time
}

// suspect is a SKU of which a generation does not have what the write side has.
type suspect struct {
	rows   int64             // about
	mark   uint64            // a version that the write side had: what the generation has to reach
	doubts map[string]string // what rows should be at the mark, by name; nil: it has not come to that yet
	wrong  int               // how many looks in a row found the same rows wrong
	since  time.Time
	faults []Fault // those rows
}

func newTrial(generation int, wrongFor time.Duration) *trial {
	return &trial{generation: generation, wrongFor: wrongFor, suspects: make(map[string]*suspect)}
}

func (t *trial) suspect(sku string, rows int64) { t.suspects[sku] = &suspect{rows: rows} }

// judge takes what a look saw of a suspect, and forgets it if it is right.
func (t *trial) judge(sku string, is, must *side) {
	s := t.suspects[sku]
	if s.mark == 0 {
		s.mark = must.version
	}
	faults, doubts := unexplained(sku, is, must)
	switch {
	case is.version >= must.version: // so what is wrong now is not of a version to come
		s.mark, s.doubts = must.version, make(map[string]string)
		for _, f := range faults {
			if undated(f.Row, f.Should) {
				s.doubts[f.Row] = f.Should
			}
		}
	case is.version < s.mark:
	case s.doubts == nil:
		t.doubt(s, is, must, doubts)
	default:
		faults = s.dispel(sku, is, faults)
	}
	lasting := slices.DeleteFunc(slices.Clone(s.faults), func(f Fault) bool { return !slices.ContainsFunc(faults, f.still) })
	switch {
	case len(faults) == 0 && is.version >= s.mark:
		delete(t.suspects, sku)
	case len(faults) == 0: // behind, and so far nothing says that it stays so
		s.wrong = 0
		s.faults = []Fault{{SKU: sku, Is: fmt.Sprintf("version %d", is.version), Should: fmt.Sprintf("version %d at least, and has not caught up", s.mark)}}
	case s.wrong > 0 && len(lasting) > 0:
		s.wrong++
		s.faults = lasting
	default:
		s.wrong, s.since, s.faults = 1, time.Now(), faults
	}
}

// doubt remembers what is doubtful when a generation has come to its first mark, with the write side's version of now as the next
// one: rows that have changed since the first mark are right as far as that, and those that agree now have all that came
// before it.
func (t *trial) doubt(s *suspect, is, must *side, doubts map[string]string) {
	maps.DeleteFunc(doubts, func(name, _ string) bool { return is.rows[name].at > s.mark })
	s.doubts = doubts
	if len(doubts) > 0 {
		s.mark = must.version
		if now := time.Now(); now.Before(t.first) {
			t.doubted = now
		}
	}
}

// dispel adds to the faults the doubts that prove right, of a generation that has come to the mark, and forgets the others.
func (s *suspect) dispel(sku string, is *side, faults []Fault) []Fault {
	for _, name := range slices.Sorted(maps.Keys(s.doubts)) {
		has, should := is.rows[name], s.doubts[name]
		switch {
		case has.what == should || has.at > s.mark:
			delete(s.doubts, name)
		case !slices.ContainsFunc(faults, func(f Fault) bool { return f.Row == name }):
			faults = append(faults, Fault{SKU: sku, Row: name, at: has.at, Is: has.what, Should: should})
		}
	}
	return faults
}

// surely reports whether a suspect was found wrong often and for long enough.
func (t *trial) surely(s *suspect) bool { return s.wrong >= looks && time.Since(s.since) >= t.wrongFor }

// settled reports whether every suspect is surely wrong.
func (t *trial) settled() bool {
	for _, s := range t.suspects {
		if !t.surely(s) {
			return false
		}
	}
	return true
}

// undecided reports whether a suspect was found wrong, and not often enough to say so.
func (t *trial) undecided() bool {
	for _, s := range t.suspects {
		if s.wrong > 0 && !t.surely(s) {
			return true
		}
	}
	return false
}

// groups cuts the suspects, in order, so that the rows of a group have room in memory.
func (t *trial) groups() (all [][]string) {
	var rows int64
	for _, sku := range slices.Sorted(maps.Keys(t.suspects)) {
		last := len(all) - 1
		n := t.suspects[sku].rows
		if last < 0 || len(all[last]) == groupSKUsMax || rows+n > groupRowsMax {
			all, rows, last = append(all, nil), 0, last+1
		}
		all[last] = append(all[last], sku)
		rows += n
	}
	return all
}

// faults returns those of the first SKUs, and how many there are in all.
func (t *trial) faults(skusMax int) (listed []Fault, all int) {
	for i, sku := range slices.Sorted(maps.Keys(t.suspects)) {
		faults := t.suspects[sku].faults
		all += len(faults)
		if i < skusMax {
			listed = append(listed, faults[:min(len(faults), skuRowsMax)]...)
		}
	}
	return listed, all
}
