package rebuild

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pace keeps what is loaded below a rate. The zero value bounds nothing; it is safe for concurrent use.
type pace struct {
	perSecond int

	mu   sync.Mutex
	next time.Time // when all that was let through is over
}

// most is the largest part that is let through at once: a quarter of a second's.
func (p *pace) most(rows int) int {
	if p.perSecond == 0 {
		return rows
	}
	return min(rows, max(1, p.perSecond/4))
}

// wait returns when so many rows may be loaded.
func (p *pace) wait(ctx context.Context, rows int) error {
	if p.perSecond == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	pause := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(rows) * time.Second / time.Duration(p.perSecond))
	p.mu.Unlock()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for the rate: %w", context.Cause(ctx))
	case <-time.After(pause):
		return nil
	}
}
