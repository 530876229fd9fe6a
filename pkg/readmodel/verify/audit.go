package verify

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// auditPause lies between the looks at what differs.
	auditPause = 200 * time.Millisecond
	// auditWaitMax bounds the wait for the projector in a look; auditWaitPoll is how often it is asked for.
	auditWaitMax  = 5 * time.Second
	auditWaitPoll = 50 * time.Millisecond
	// auditLooksMax bounds the looks of a step: three that find something wrong, and some that cannot tell.
	auditLooksMax = looks + 2
	// driftingMax bounds what is remembered as drifting: lines, and SKUs without their lines.
	driftingMax = 10_000
)

// Auditor holds a read model against Postgres for ever, a few rows a step: SKUs and their batches in the order of SKUs,
// and order lines in the order of orders, which is how both stores have them sorted. It reads no events, and so cannot say
// who is right; Run can. Not compared are the log of events and outcomes, rows of batches_by_ref that are too many, and
// what Run leaves out. Not safe for concurrent use.
type Auditor struct {
	// Offsets returns, for each partition of the events topic, its end and the projector group's committed offset.
	Offsets func(context.Context) (ends, projected map[int32]int64, err error)
	// RowsMax is how many SKUs, and how many order lines, are read in a step.
	RowsMax int

	skus, lines walk
	drifting    map[row]bool
}

// walk is how far a pass has come.
type walk struct {
	orderID, sku string // the last key that was read; orders only of lines
	ended        bool
}

// Audited is what a step did.
type Audited struct {
	SKUs, Lines int
	// Unsettled are SKUs and lines that differed, and of which no look could tell who is behind.
	Unsettled int
	// Found are rows that differ for good, and did not in the step before. Should is what Postgres says.
	Found []Fault
	// Mended are SKUs that no longer differ.
	Mended []string
	// Drifting is how many SKUs differ now, as far as is known. It is exact up to 10,000 rows.
	Drifting int
	// PassEnded: with this step every row has been looked at once more.
	PassEnded bool
}

// Step looks at the next rows, and at some of those again that differed before. It asks with index scans that are as
// large as RowsMax, over connections that are the caller's. It takes milliseconds if all rows agree, and about as long
// as the projection lags if not, at most half a minute. An error says that it could not look; the next step tries the
// same again.
func (a *Auditor) Step(ctx context.Context, postgres *pgx.Conn, of AuditedStore) (*Audited, error) {
	s := &auditStep{Auditor: a, postgres: postgres, store: of, open: make(map[row]*suspicion)}
	done := new(Audited)
	skus, lines := a.skus, a.lines
	var err error
	if done.SKUs, err = s.nextSKUs(ctx, &skus); err != nil {
		return nil, err
	}
	if done.Lines, err = s.nextLines(ctx, &lines); err != nil {
		return nil, err
	}
	again := 0
	for r := range a.drifting {
		if again++; again <= a.RowsMax {
			s.suspect(r)
		}
	}
	if err := s.settle(ctx, done); err != nil {
		return nil, err
	}
	a.skus, a.lines = skus, lines
	if a.skus.ended && a.lines.ended {
		a.skus, a.lines, done.PassEnded = walk{}, walk{}, true
	}
	return done, nil
}

// auditStep is what a step holds meanwhile.
type auditStep struct {
	*Auditor
	postgres *pgx.Conn
	store    AuditedStore
	// open is what is suspected: a line, or, under the row that is named sku, all other rows of a SKU together.
	open map[row]*suspicion
}

type suspicion struct {
	wrong  int // looks that found it wrong since the last that found it right
	right  bool
	faults []Fault
}

func (f *suspicion) settled() bool { return f.right || f.wrong >= looks }

func (s *auditStep) suspect(r row) {
	if !r.isLine() {
		r.name = rowSKU
	}
	if s.open[r] == nil {
		s.open[r] = new(suspicion)
	}
}

// settle looks at what is suspected until it is found right, or wrong often enough in a row.
func (s *auditStep) settle(ctx context.Context, done *Audited) error {
	for n := 0; n < auditLooksMax && s.unsettled() > 0; n++ {
		if n > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(auditPause):
			}
		}
		if looked, err := s.look(ctx); err != nil {
			return err
		} else if !looked {
			break // the projector is behind, and the other looks would only wait as long
		}
	}
	done.Unsettled = s.unsettled()
	mended := make(map[string]bool)
	for r, found := range s.open {
		switch {
		case found.right && s.drifting[r]:
			delete(s.drifting, r)
			mended[r.sku] = true
		case found.wrong >= looks && !s.drifting[r] && len(s.drifting) < driftingMax:
			if s.drifting == nil {
				s.drifting = make(map[row]bool)
			}
			s.drifting[r] = true
			done.Found = append(done.Found, found.faults...)
		}
	}
	slices.SortFunc(done.Found, func(a, b Fault) int { return cmp.Or(cmp.Compare(a.SKU, b.SKU), cmp.Compare(a.Row, b.Row)) })
	drifting := make(map[string]bool)
	for r := range s.drifting {
		drifting[r.sku] = true
		delete(mended, r.sku)
	}
	done.Drifting, done.Mended = len(drifting), slices.Sorted(maps.Keys(mended))
	return nil
}

func (s *auditStep) unsettled() (n int) {
	for _, found := range s.open {
		if !found.settled() {
			n++
		}
	}
	return n
}

// look asks both stores about what is not settled, and judges it. Postgres is asked before and after the read model, and
// that only once what Postgres said first is published and projected: so it must have at least that,
// and at most what Postgres says afterwards. false: that takes too long.
func (s *auditStep) look(ctx context.Context) (bool, error) {
	keys := newAuditKeys()
	for r, found := range s.open {
		if !found.settled() {
			keys.add(r)
		}
	}
	before, err := s.postgresNow(ctx, keys)
	if err != nil {
		return false, err
	}
	if projected, err := s.waitProjected(ctx, before); err != nil || !projected {
		return false, err
	}
	is, err := s.store.now(ctx, keys, before)
	if err != nil {
		return false, err
	}
	after, err := s.postgresNow(ctx, keys)
	if err != nil {
		return false, err
	}
	between, err := s.eventsBetween(ctx, is, before, after)
	if err != nil {
		return false, err
	}
	verdicts := compare(keys, before, is, after, between)
	for r, found := range s.open {
		verdict, looked := verdicts[r]
		for i := range verdict.faults {
			verdict.faults[i].Store = s.store.Name()
		}
		switch {
		case !looked:
		case len(verdict.faults) > 0:
			found.wrong, found.faults = found.wrong+1, verdict.faults
		case !verdict.unknown:
			found.right = true
		}
	}
	return true, nil
}

// waitProjected waits until the events of what Postgres said are published and projected; false: that takes too long.
//
// A row of the outbox is deleted only once its events are known to be published. After that the topic's ends lie behind
// them, whatever transactions are open, and the projector is past them once it has committed those ends.
func (s *auditStep) waitProjected(ctx context.Context, said *auditRows) (bool, error) {
	deadline := time.Now().Add(auditWaitMax)
	published, err := until(ctx, deadline, func() (bool, error) { return s.published(ctx, said) })
	if err != nil || !published {
		return false, err
	}
	ends, _, err := s.Offsets(ctx)
	if err != nil {
		return false, err
	}
	return until(ctx, deadline, func() (bool, error) {
		_, projected, err := s.Offsets(ctx)
		for p, end := range ends {
			if projected[p] < end {
				return false, err
			}
		}
		return true, err
	})
}

// until asks until the answer is yes, or the time is over: then it is no.
func until(ctx context.Context, deadline time.Time, done func() (bool, error)) (bool, error) {
	for {
		if yes, err := done(); err != nil || yes {
			return yes, err
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(auditWaitPoll):
		}
	}
}
