// Package fault decides how long to try: an outage is waited out with backoff,
// whatever else went wrong is not.
//
// Adapters call it around one operation that is safe to repeat. It imports
// nothing of Lotline.
package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	firstPause  = 50 * time.Millisecond
	maxPause    = 5 * time.Second
	logInterval = 10 * time.Second
)

// Permanent marks err as one that trying again cannot mend, also for a Retry
// around the one that it ends. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return backoff.Permanent(err)
}

// Retry calls fn until it succeeds, however long that takes, with pauses that
// grow from 50 ms to 5 s and vary at random so that many processes do not
// return at once. It ends early with an error when fn returns one marked by
// Permanent, or when ctx ends; that error then wraps both the context's cause
// and fn's last failure.
//
// The first failure is logged, then at most one every 10 s, and the recovery;
// what names the operation ("read from Postgres") in the log and the error.
func Retry(ctx context.Context, log *slog.Logger, what string, fn func(context.Context) error) error {
	start := time.Now()
	var last error
	var failures int
	var logged time.Time

	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		last = fn(ctx)
		return struct{}{}, last
	},
		backoff.WithBackOff(pauses()),
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, pause time.Duration) {
			failures++
			if failures > 1 && time.Since(logged) < logInterval {
				return
			}
			logged = time.Now()
			log.WarnContext(ctx, "could not "+what+", trying again", "error", err, "failures", failures,
				"outage", time.Since(start), "pause", pause)
		}))

	switch {
	case err == nil:
		if failures > 0 {
			log.InfoContext(ctx, "could "+what+" again", "failures", failures, "outage", time.Since(start))
		}
		return nil
	case ctx.Err() != nil && !errors.Is(last, err):
		return fmt.Errorf("%s: %w (last failure: %w)", what, err, last)
	default: // what fn said around what it marked is not in err
		return fmt.Errorf("%s: %w", what, last)
	}
}

func pauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = firstPause
	b.MaxInterval = maxPause
	b.Multiplier = 2
	return b
}
