package readmodel

import (
	"context"
	"time"
)

// RefusedError says that a store will not keep these records, now or later, because of what is in one or more of them.
// Others may be kept.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// OverloadedError says that a store asks for fewer blocks, which may be larger, and that it will take the same records
// later.
type OverloadedError struct{ Err error }

func (e *OverloadedError) Error() string { return e.Err.Error() }
func (e *OverloadedError) Unwrap() error { return e.Err }

// Ledger is a store that remembers what it lacks, so that whoever projects next still knows, and so do people. A Writer
// may be one; then its methods must not be called concurrently with those of Writer.
type Ledger interface {
	// SetAside notes what is lacking, and returns once the note survives a crash. The same may be noted again.
	SetAside(ctx context.Context, what []Aside) error
	// Asides returns what is noted, in the order of SKU, version, event id and kind, at most limit, and how much there is in
	// all. Those up to after are left out: with the last of one answer for it comes the next. The zero Aside is before all.
	Asides(ctx context.Context, after Aside, limit int) (noted []Aside, all int, err error)
	// Returned takes back some notes, which are told apart by What, SKU, Version and EventID: what they are about is there
	// now. Others of the same SKUs stay, since nobody may have looked whether theirs is.
	Returned(ctx context.Context, what []Aside) error
	// Missing returns those of some versions of SKUs of which the store keeps no event, of events since a time. One that
	// keeps no events returns those of which no row shows that they came.
	Missing(ctx context.Context, of []Aside, since time.Time) ([]Aside, error)
}

// Kinds of what is set aside.
const (
	// AsideRefused is an event that the store refuses.
	AsideRefused = "refused"
	// AsideMissing is an event that nobody has: a later one of the SKU came, and the topic does not have it.
	AsideMissing = "missing"
)

// Aside is something that a read model lacks.
type Aside struct {
	What    string // one of the kinds above
	SKU     string
	Version uint64 // of the event; of an outcome that changed nothing the SKU's
	EventID string // "" if it is missing
	Reason  string // for people
	Event   string // as JSON; "" if it is missing
	// Time is the event's; Partition and Offset are its place in the events topic. Of one that is missing they are those of
	// the event that came after it.
	Time      time.Time
	Partition int32
	Offset    int64
}
