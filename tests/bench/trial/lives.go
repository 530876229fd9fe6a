package trial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lotline/lotline/tests/bench/usage"
)

// KillLast ends the allocator that was started last at once, as kill -9 does.
func (a *Allocators) KillLast() error { return a.last().Kill() }

// StopLast ends it as an operator would, and returns when it has ended.
func (a *Allocators) StopLast() error { return a.last().Stop() }

// Kill ends all of them at once, as kill -9 does.
func (a *Allocators) Kill() (err error) {
	for len(a.running) > 0 {
		err = errors.Join(err, a.KillLast())
	}
	return err
}

// last takes the one that was started last out of those that run.
func (a *Allocators) last() *Process {
	p := a.running[len(a.running)-1]
	a.running = a.running[:len(a.running)-1]
	return p
}

// AddOne starts another and waits until all share the partitions.
func (a *Allocators) AddOne(ctx context.Context) error {
	a.members += a.members / a.count
	a.count++
	if err := a.launch(a.count - 1); err != nil {
		return err
	}
	return a.site.awaitMembers(ctx, a.members)
}

const readyWithin = 30 * time.Second

// AwaitReady waits until the first allocator says that it is ready.
func (a *Allocators) AwaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		_, err := usage.Get(ctx, "http://"+a.admin+"/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("an allocator is not ready: %w", errors.Join(err, ctx.Err()))
		case <-time.After(2 * time.Millisecond):
		}
	}
}
