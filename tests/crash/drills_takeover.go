package crash

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/lotline/lotline/tests/verify"
)

// zombie freezes a service until another has taken its partitions over, and wakes it.
func zombie(program string) func(context.Context, *Field) error {
	return func(ctx context.Context, f *Field) error {
		sent := f.load(ctx)
		time.Sleep(200 * time.Millisecond)
		victim := f.process(program, "a")
		if err := victim.Process.Signal(syscall.SIGSTOP); err != nil {
			return fmt.Errorf("freeze %s a: %w", program, err)
		}
		frozen := time.Now()
		state, err := processState(victim.Process.Pid)
		if err != nil {
			return err
		}
		before, err := f.members(ctx, program)
		if err != nil {
			return err
		}
		if err := sent(); err != nil {
			return err
		}
		after, err := f.awaitMembers(ctx, program, func(n int) bool { return n < before })
		if err != nil {
			return err
		}
		if program == "allocator" {
			if _, err := f.awaitPublished(ctx, frozen); err != nil {
				return err
			}
		}
		f.measure("taken over after", time.Since(frozen))
		f.took("SIGSTOP of "+program+" a", "its state was %s, and its group went from %d to %d members", state, before, after)
		// Past every timeout of its own too: transactions, sessions, connections.
		time.Sleep(f.options.Outage / 2)
		if err := victim.Process.Signal(syscall.SIGCONT); err != nil {
			return fmt.Errorf("wake %s a: %w", program, err)
		}
		woken := time.Now()
		if _, err := f.awaitMembers(ctx, program, func(n int) bool { return n >= before }); err != nil {
			return err
		}
		f.measure("woken, rejoined after", time.Since(woken))
		return nil
	}
}

// processState is the state that the kernel gives a process: T if it is stopped.
func processState(pid int) (string, error) {
	for range 100 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return "", fmt.Errorf("look at process %d: %w", pid, err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if strings.HasPrefix(rest, "T") {
			return "T", nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("process %d was not stopped by SIGSTOP", pid)
}

// members counts the members of a service's consumer group.
func (f *Field) members(ctx context.Context, program string) (int, error) {
	group := f.name + "." + program
	groups, err := f.adm.DescribeGroups(ctx, group)
	if err != nil {
		return 0, fmt.Errorf("describe the group %s: %w", group, err)
	}
	return len(groups[group].Members), nil
}

// awaitMembers waits until a service's group has a number of members that will do.
func (f *Field) awaitMembers(ctx context.Context, program string, enough func(int) bool) (int, error) {
	for began := time.Now(); ; time.Sleep(lookEvery) {
		n, err := f.members(ctx, program)
		if err != nil || enough(n) {
			return n, err
		}
		if time.Since(began) > noticedWithin {
			return n, fmt.Errorf("the group of the %ss still has %d members after %s, see %s", program, n, noticedWithin, f.dir)
		}
	}
}

// rollingRestart stops and starts each service in turn, and measures how long what came meanwhile waited.
func rollingRestart(ctx context.Context, f *Field) error {
	lines := f.during
	f.during = nil
	share := len(lines) / len(processes)
	for i, process := range processes {
		old := f.process(process[0], process[1]).Process.Pid
		stopped := time.Now()
		if err := f.stop(process[0], process[1]); err != nil {
			return err
		}
		ended := time.Since(stopped)
		err := f.send(ctx, lines[i*share:(i+1)*share])
		if err != nil {
			return err
		}
		done := "published"
		if process[0] == "allocator" {
			_, err = f.awaitPublished(ctx, stopped)
		} else {
			done, err = "projected", verify.Settle(ctx, f.target)
		}
		took := time.Since(stopped)
		if err != nil {
			return err
		}
		f.measure(fmt.Sprintf("%s %s stopped in %s, what came next %s after", process[0], process[1], ended.Round(time.Millisecond), done), took)
		if err := f.run(ctx, process[0], process[1]); err != nil {
			return err
		}
		f.took("restart of "+process[0]+" "+process[1], "process %d became %d", old, f.process(process[0], process[1]).Process.Pid)
	}
	return f.readyAgain(ctx)
}
