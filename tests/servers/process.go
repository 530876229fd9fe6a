package servers

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/shirou/gopsutil/v4/process"
)

// signalTree signals a process and all its descendants, parents first; a process group would not do, as Postgres puts
// each backend into one of its own. After SIGKILL it waits until the descendants are gone: Postgres does not start
// again while one of its backends holds the shared memory.
func signalTree(pid int, sig syscall.Signal) error {
	tree, err := descendants(int32(pid))
	if err != nil {
		return err
	}
	for _, p := range tree {
		if err := syscall.Kill(int(p.Pid), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", p.Pid, err)
		}
	}
	if sig != syscall.SIGKILL {
		return nil
	}
	deadline := time.Now().Add(stopWithin)
	for _, p := range tree[1:] {
		for alive(p) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d outlived SIGKILL by %s", p.Pid, stopWithin)
			}
			time.Sleep(pollEvery / 5)
		}
	}
	return nil
}

func descendants(pid int32) ([]*process.Process, error) {
	p, err := process.NewProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("find process %d: %w", pid, err)
	}
	tree := []*process.Process{p}
	for i := 0; i < len(tree); i++ {
		children, err := tree[i].Children()
		if err != nil && !errors.Is(err, process.ErrorNoChildren) && !errors.Is(err, process.ErrorProcessNotRunning) {
			continue // it ended since it was listed
		}
		tree = append(tree, children...)
	}
	return tree, nil
}

func alive(p *process.Process) bool {
	status, err := p.Status()
	return err == nil && len(status) > 0 && status[0] != process.Zombie
}
