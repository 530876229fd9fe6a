package offsets

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/commandlog"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// recheck decides the next command of a partition that is behind what was published, as an allocator would, and says if it
// becomes something else than it was. Nothing is written.
func (d *Desk) recheck(ctx context.Context, s *Standing, r *kgo.Record) {
	err := d.decideAgain(ctx, s, r)
	switch {
	case errors.Is(err, apply.ErrDiffers):
		s.Halted = err.Error()
	case err != nil:
		s.Note += fmt.Sprintf("; whether the next one is decided as it was is not known: %s", err)
	}
}

func (d *Desk) decideAgain(ctx context.Context, s *Standing, r *kgo.Record) error {
	past, err := commandlog.ReadPast(ctx, d.events, s.Seen, s.Partition, r.Offset, r.Offset+1, r.Timestamp)
	if err != nil {
		return err
	}
	store, err := postgres.New(func() (string, error) { return d.url, nil }, postgresMax)
	if err != nil {
		return err
	}
	defer store.Close()
	applier, err := apply.New(looking{store}, commandlog.Encoder(d.topics.Commands.Name, schemas.JSON), apply.Limits{
		Limits: d.rules, ProductsCachedMax: 1, SegmentBytesMax: 1,
	})
	if err != nil {
		return err
	}
	_, err = applier.ApplyAgain(ctx, s.Seen, s.Partition, r.Offset, r.Offset+1, []apply.Input{commandlog.Decode(r)}, past.Differs)
	if errors.Is(err, errLooking) {
		return nil
	}
	// An allocator may have decided the command since the position was read: then the rows are those after it, and its line is
	// there already. That is no halt.
	if next, failed := store.NextOffset(ctx, s.Seen, s.Partition); errors.Is(err, apply.ErrDiffers) && failed == nil && next != s.Applied {
		return nil
	}
	return err
}

// looking is a store in which nothing is written or locked.
type looking struct{ *postgres.Store }

var errLooking = errors.New("it was only looked at")

func (looking) Commit(context.Context, ...apply.Write) error { return errLooking }

func (l looking) Locked(ctx context.Context, _ string, _ int32, _ int64, _ []string, fn func(context.Context, apply.Session) error) error {
	return fn(ctx, l)
}
