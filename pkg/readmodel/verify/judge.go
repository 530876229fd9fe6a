package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// judge finds out, for SKUs that did not agree at first sight, whether a store is behind or wrong.
//
// A store that says version 7 of a SKU must have what the events come to at version 7, whatever has happened since:
// that can be checked while commands come in. It is behind if it has a lower version than the events had before it
// was asked, and wrong if nothing is left that could bring it the rest.
//
// Postgres answers in one snapshot. ClickHouse does not, and a block of events does not reach its tables at one moment, but on
// a busy machine over seconds: of a SKU that never stands still some table nearly always has a block that others have
// not. So each kind of rows may be at a version of its own, from the last that the projector has committed on: a block
// is committed once it is in all tables.
type judge struct {
	Options
	log      *eventLog
	fold     *fold
	outcomes outcomes
	open     map[string]*suspect // by SKU
}

// suspect is a SKU that a store does not agree on.
type suspect struct {
	postgres, clickHouse finding
	mark                 uint64 // the version that the events had when it was last looked at, before the stores were asked
}

type finding struct {
	what  string // "" if it agrees
	wrong int    // how many looks in a row found it wrong; 0: it is behind, or agrees
}

func (f *finding) agrees() { *f = finding{} }

func (f *finding) behind(format string, args ...any) {
	*f = finding{what: fmt.Sprintf(format, args...)}
}

func (f *finding) isWrong(format string, args ...any) {
	*f = finding{fmt.Sprintf(format, args...), f.wrong + 1}
}

const (
	// looks is how often in a row a store must be found wrong. Once is not enough: a part of a table may be added or
	// replaced while it is read.
	looks = 3

	// Pauses between looks grow, since a store looks behind for as long as they are shorter than its usual lag.
	pauseMin = 100 * time.Millisecond
	pauseMax = 3 * time.Second

	// skusAskedMax is how many SKUs are asked for by name; more by bucket.
	skusAskedMax = 500
)

// settle looks again at the SKUs of buckets until all agree or are surely wrong, or the time is over.
func (j *judge) settle(ctx context.Context, differ []int32) error {
	s := scope{buckets: differ}
	deadline := time.Now().Add(j.Wait)
	late := 0
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		if err := j.look(ctx, s); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			late++
		}
		// The wait is for what is behind. What was found wrong gets the looks that it takes to say so.
		if j.settled() || late > 0 && (late > looks || !j.undecided()) {
			return nil
		}
		s = scope{skus: slices.Sorted(maps.Keys(j.open))}
		if len(s.skus) > skusAskedMax {
			s = scope{buckets: bucketsOf(s.skus)}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the stores to catch up: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

func (j *judge) settled() bool {
	for _, s := range j.open {
		for _, f := range []finding{s.postgres, s.clickHouse} {
			if f.what != "" && f.wrong < looks {
				return false
			}
		}
	}
	return true
}

// undecided reports whether a store was found wrong, and not often enough to say so.
func (j *judge) undecided() bool {
	for _, s := range j.open {
		for _, f := range []finding{s.postgres, s.clickHouse} {
			if f.wrong > 0 && f.wrong < looks {
				return true
			}
		}
	}
	return false
}

func bucketsOf(skus []string) []int32 {
	var all []int32
	for _, sku := range skus {
		all = append(all, bucketOf(sku))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// look asks the stores once, reads the topic on past what they said, and judges each SKU.
//
// The order matters. The events read so far are the mark that the stores are held to. The projector's offsets come
// before ClickHouse is asked: what was committed by then must be in the answer. The topic is read on after both: an
// event that Postgres has published, or ClickHouse has got, is in it.
func (j *judge) look(ctx context.Context, s scope) error {
	projected, err := j.log.isProjected(ctx, j.Group)
	if err != nil {
		return err
	}
	postgres, quiet, err := postgresSums(ctx, j.Postgres, s)
	if err != nil {
		return err
	}
	clickHouse, err := j.clickHouseSums(ctx, s)
	if err != nil {
		return err
	}
	marks := j.marks(s, postgres, clickHouse)
	if err := j.advance(ctx); err != nil {
		return err
	}
	open := make(map[string]*suspect)
	for sku, mark := range marks {
		key, p := sumKey{sku: sku}, j.fold.products[sku]
		found := j.open[sku]
		if found == nil {
			found = new(suspect)
		}
		found.mark = mark
		judgePostgres(&found.postgres, postgres[key], p, mark, quiet && !j.log.hidden)
		if j.ClickHouse != nil {
			judgeClickHouse(&found.clickHouse, clickHouse[key], p, mark, projected)
		}
		if found.postgres.what != "" || found.clickHouse.what != "" {
			open[sku] = found
		}
		p.since = nil
	}
	j.open = open
	return nil
}

// marks returns the versions that the events have for each SKU in scope, and makes the fold keep what it comes to from
// there on.
func (j *judge) marks(s scope, stores ...map[sumKey]sum) map[string]uint64 {
	marks := make(map[string]uint64)
	mark := func(sku string) {
		if _, marked := marks[sku]; marked || j.open != nil && j.open[sku] == nil {
			return
		}
		p := j.fold.products[sku]
		if p == nil {
			p = newProduct()
			j.fold.products[sku] = p
		}
		marks[sku] = p.version
		p.since = []sum{j.fold.sum(sku, p)}
	}
	for _, sums := range stores {
		for key := range sums {
			mark(key.sku)
		}
	}
	for sku := range j.fold.products { // what no store may have
		if s.skus != nil || slices.Contains(s.buckets, bucketOf(sku)) {
			mark(sku)
		}
	}
	return marks
}

func judgePostgres(f *finding, said sum, p *product, mark uint64, quiet bool) {
	switch {
	case said.version > p.version && quiet:
		f.isWrong("is at version %d, the events end at %d, and nothing waits to be published", said.version, p.version)
	case said.version > p.version:
		f.behind("is at version %d, the events at %d: %d are not published yet", said.version, p.version, said.version-p.version)
	case said.version < mark:
		f.behind("is at version %d, and version %d is published: was it restored from a backup?", said.version, mark)
	case !said.sameState(p.since[said.version-mark]):
		f.isWrong("is not what the events come to at version %d", said.version)
	default:
		f.agrees()
	}
}

func judgeClickHouse(f *finding, said sum, p *product, mark uint64, projected bool) {
	switch {
	case said.version > p.version:
		f.isWrong("is at version %d, and the events end at %d", said.version, p.version)
	case said.version < mark && projected:
		f.isWrong("is at version %d, and the projector is past version %d", said.version, mark)
	case said.version < mark:
		f.behind("is at version %d, the events at %d: %d are not projected yet", said.version, mark, mark-said.version)
	case said.isWithin(p.since):
		f.agrees()
	case projected:
		f.isWrong("is not what the events come to at version %d", said.version)
	default:
		f.behind("is not what the events come to at version %d, and the projector is not past it", said.version)
	}
}
