// Package underway waits for writers that a store can list: those who are in the middle of a block.
//
// The stores call it, each with its own way to list them. It imports the standard library only.
package underway

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// pause is between two looks.
const pause = 20 * time.Millisecond

// List returns the names of what is under way. No two have the same, also not one after the other.
type List func(ctx context.Context) ([]string, error)

// Settle returns once nothing is under way that was when it was called. The error is the list's, or says for how many it
// waited when ctx ended.
func (list List) Settle(ctx context.Context) error {
	before, err := list(ctx)
	if err != nil {
		return err
	}
	return list.Await(ctx, func(running []string) bool {
		return !slices.ContainsFunc(running, func(name string) bool { return slices.Contains(before, name) })
	})
}

// Await looks at what is under way until it satisfies.
func (list List) Await(ctx context.Context, satisfied func(running []string) bool) error {
	for {
		running, err := list(ctx)
		if err != nil || satisfied(running) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %d blocks to end: %w", len(running), context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
