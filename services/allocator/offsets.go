package allocator

import (
	"context"

	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

// Position is how far a partition of the commands topic is in the allocator's database.
type Position = postgres.Position

// ErrMoved says that a partition does not stand where it was seen, or has decided events that are not published yet.
var ErrMoved = postgres.ErrMoved

// Positions reads where every partition that was ever seen stands.
func Positions(ctx context.Context, url string) (map[int32]Position, error) {
	return postgres.AllPositions(ctx, url)
}

// MovePosition gives up the commands between from and to. It changes nothing unless the partition still stands at
// from and everything that was decided for it is published, which is below the group's committed offset published.
// A running allocator goes on from there by itself.
func MovePosition(ctx context.Context, url string, partition int32, from, to Position, published int64) error {
	return postgres.Move(ctx, url, partition, from, to, published)
}
