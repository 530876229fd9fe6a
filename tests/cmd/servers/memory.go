package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"
)

const (
	// memory is where Linux has files in memory.
	memory = "/dev/shm"
	// memoryMin is how much memory has to be available for files to be kept there, in bytes.
	memoryMin = 8 << 30
	// prefix begins the names of directories that servers makes; in memory its process's id and a dash follow.
	prefix = "lotline-servers-"
)

// memoryLimits are the files in which a container finds how much memory it may take; other machines do not have them.
var memoryLimits = []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}

// hasRoom reports whether ClickHouse's files can be in memory.
//
// Each insert has ClickHouse make a part in each of six tables, of a dozen small files each, and none is made durable: it
// never waits for a disk. But ext4 without a journal looks at every inode that was deleted in the last minutes before it
// gives out one, and tests delete many. By perf that was 55 % of ClickHouse's CPU time in inserts of 100 events.
func hasRoom() bool {
	has, err := mem.VirtualMemory()
	if err != nil {
		return false
	}
	at, err := disk.Usage(memory)
	return err == nil && roomy(has.Available, memoryLimit(memoryLimits...), at.Fstype, at.Free)
}

// roomy reports whether ClickHouse's files fit into memory: of available bytes, of which this process may take limit at
// most, and in a file system of that type with free bytes.
func roomy(available, limit uint64, fsType string, free uint64) bool {
	return fsType == "tmpfs" && min(available, limit, free) >= memoryMin
}

// memoryLimit is the least of what the files say, in bytes. One that is not there, or says "max", is no limit.
func memoryLimit(files ...string) uint64 {
	limit := uint64(math.MaxUint64)
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if bytes, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
			limit = min(limit, bytes)
		}
	}
	return limit
}

// makeDir makes a directory in parent that sweep knows, if that has room, and otherwise returns the other: also where
// parent is closed to this process, as a sandbox may keep it.
func makeDir(parent string, room bool, other string) string {
	if !room {
		return other
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		return other
	}
	return dir
}

// sweep removes what makeDir made in parent for processes that are dead: one that was killed removed nothing, and files in
// memory are there until the machine starts anew. It is no error if something stays. Containers that share parent have to
// share their processes' ids too.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, dir := range dirs {
		id, _, complete := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		pid, err := strconv.ParseInt(id, 10, 32)
		if err != nil || !complete {
			continue
		}
		if alive, err := process.PidExists(int32(pid)); err == nil && !alive {
			os.RemoveAll(dir)
		}
	}
}
