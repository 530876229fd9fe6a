package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/tests/bench/usage"
	"github.com/lotline/lotline/tests/internal/ports"
)

// AllocatorProgram is the program that NewGround has to build for StartAllocators.
const AllocatorProgram = "services/allocator/cmd/allocator"

// Allocators are processes of the allocator as it ships.
type Allocators struct {
	site    *Site
	args    []string
	count   int
	members int
	running []*Process
	admin   string // of the first
}

// StartAllocators runs allocators of that many sessions each, with more arguments, and waits until they share the partitions.
// The caller stops them, also after an error.
func (s *Site) StartAllocators(ctx context.Context, count, sessions int, args ...string) (*Allocators, error) {
	a := &Allocators{site: s, count: count, members: count * sessions, args: append([]string{
		"--kafka-brokers=" + strings.Join(s.Kafka, ","), "--kafka-topic-prefix=" + s.Config.TopicPrefix,
		fmt.Sprintf("--sessions=%d", sessions), "--admin-profiles", "--log-level=warn",
	}, args...)}
	return a, a.start(ctx)
}

func (a *Allocators) start(ctx context.Context) error {
	for i := range a.count {
		if err := a.launch(i); err != nil {
			return err
		}
	}
	return a.site.awaitMembers(ctx, a.members)
}

// launch starts the process of that number.
func (a *Allocators) launch(i int) error {
	port, err := ports.Free()
	if err != nil {
		return err
	}
	admin := fmt.Sprintf("127.0.0.1:%d", port)
	if i == 0 {
		a.admin = admin
	}
	p, err := a.site.Start("allocator", append([]string{fmt.Sprintf("--instance-id=%d", i), "--admin-addr=" + admin}, a.args...)...)
	if err != nil {
		return err
	}
	a.running = append(a.running, p)
	return nil
}

// Restart ends the processes and starts others, which have nothing in memory.
func (a *Allocators) Restart(ctx context.Context) error {
	return errors.Join(a.Stop(), a.start(ctx))
}

// Stop ends the processes, all at once.
func (a *Allocators) Stop() error {
	var group errgroup.Group
	for _, p := range a.running {
		group.Go(p.Stop)
	}
	a.running = nil
	return group.Wait()
}

// Processes are those that run.
func (a *Allocators) Processes() (all []usage.Process) {
	for _, p := range a.running {
		all = append(all, p.Usage("allocator"))
	}
	return all
}

// Profile has the first allocator write a CPU profile of the next ten seconds to a file; the channel gets how it went.
func (a *Allocators) Profile(ctx context.Context, file string) <-chan error {
	done := make(chan error, 1)
	go func() {
		profile, err := a.CPUProfile(ctx, usage.ProfileMax)
		done <- errors.Join(err, os.WriteFile(file, profile, 0o644))
	}()
	return done
}

// CPUProfile returns, for pprof, what the first allocator does in the next seconds.
func (a *Allocators) CPUProfile(ctx context.Context, span time.Duration) ([]byte, error) {
	return usage.CPUProfile(ctx, a.admin, span)
}
