package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lotline/lotline/tests/bench/report"
)

// rebuilt is what `lotline rebuild --json` prints, as far as it is used here, and what it cost.
type rebuilt struct {
	Rows           int64   `json:"rows"`
	FillSeconds    float64 `json:"fill_seconds"`
	ReadSeconds    float64 `json:"read_seconds"`
	LoadSeconds    float64 `json:"load_seconds"`
	CompareSeconds float64 `json:"compare_seconds"`
	SumSeconds     float64 `json:"sum_seconds"`
	SwitchSeconds  float64 `json:"switch_seconds"`
	Switched       bool    `json:"switched"`

	cpu    []cost
	memory int64 // the most that it had, in bytes
	// How long the live path took: before, while the generation was filled, and while it caught up and was compared.
	before, filling, comparing []time.Duration
}

// cost is the CPU time of a process.
type cost struct {
	name string
	time time.Duration
}

// rebuild runs `lotline rebuild`.
func (s *site) rebuild(ctx context.Context) (*rebuilt, error) {
	processes, err := s.processes()
	if err != nil {
		return nil, err
	}
	r := new(rebuilt)
	for _, p := range processes {
		used, err := p.CPU()
		if err != nil {
			return nil, err
		}
		r.cpu = append(r.cpu, cost{p.Name, -used})
	}
	var out bytes.Buffer
	c := s.lotline(ctx, "--from=state", "--json", "--skus-max=5", fmt.Sprintf("--workers=%d", s.Workers))
	c.Stdout = &out
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("lotline rebuild: %w: %s", err, out.String())
	}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return nil, err
	}
	if !r.Switched {
		return nil, fmt.Errorf("it did not switch: %s", out.String())
	}
	own := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	for i, p := range processes {
		used, err := p.CPU()
		if err != nil {
			return nil, err
		}
		r.cpu[i].time += used
	}
	r.cpu[len(r.cpu)-1].time -= own // it was this program's child
	r.cpu = append(r.cpu, cost{"lotline rebuild", own})
	if usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.memory = usage.Maxrss << 10
	}
	return r, nil
}

// drop ends the generation that was asked before.
func (s *site) drop(ctx context.Context) error {
	if err := s.lotline(ctx, "--drop").Run(); err != nil {
		return fmt.Errorf("lotline rebuild --drop: %w", err)
	}
	return nil
}

func (s *site) lotline(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(s.dir, "lotline"), append([]string{
		"rebuild",
		"--kafka-brokers=" + strings.Join(s.on.Kafka, ","), "--kafka-topic-prefix=" + s.on.TopicPrefix,
		"--clickhouse-addrs=" + s.on.ClickHouse, "--clickhouse-database=" + s.on.Database,
	}, args...)...)
	c.Env = append(os.Environ(), "LOTLINE_POSTGRES_URL="+s.on.PostgresURL)
	c.Stderr = os.Stderr
	return c
}

// add compares the filling with reading and inserting alone, one after the other, in lines a second each.
func (done *rebuilt) add(r *report.Report, lines, read, insert float64) {
	const parts, floor, cpu = "rebuild from state", "floor: the same without a rebuild and with nothing else running", "CPU while it ran, of the live path too"
	for _, part := range []struct {
		name    string
		seconds float64
	}{
		{"filled", done.FillSeconds},
		{"of it reading Postgres, by all workers", done.ReadSeconds},
		{"and writing to ClickHouse, by all workers", done.LoadSeconds},
		{"caught up and compared", done.CompareSeconds},
		{"of it adding up all rows", done.SumSeconds},
		{"switched", done.SwitchSeconds},
	} {
		r.Add(parts, part.name, "took", "s", part.seconds)
	}
	r.Add(parts, "filled", "order lines", "/s", lines/done.FillSeconds)
	r.Add(parts, "filled", "rows", "", float64(done.Rows))
	r.Add(parts, "filled", "most memory", "MiB", float64(done.memory>>20))
	both := 1 / (1/read + 1/insert)
	r.Add(floor, "order lines read from Postgres, and dropped", "order lines", "/s", read)
	r.Add(floor, "order lines inserted from memory", "order lines", "/s", insert)
	r.Add(floor, "one after the other", "order lines", "/s", both)
	r.Add(floor, "one after the other", "the rebuild's filling, as a multiple", "", lines/done.FillSeconds/both)
	for _, c := range done.cpu {
		r.Add(cpu, c.name, "a line", "us", float64(c.time.Microseconds())/lines)
	}
	const livePath, times = "live path: from Kafka's acknowledgement to a row that is read with FINAL", "p99, as a multiple of before"
	for _, while := range []struct {
		row  string
		took []time.Duration
	}{
		{"before", done.before},
		{"meanwhile", slices.Concat(done.filling, done.comparing)},
		{"of it while it was filled", done.filling},
		{"of it while it caught up and was compared", done.comparing},
	} {
		if len(while.took) == 0 { // few lines are filled in no time
			continue
		}
		r.AddLatencies(livePath, while.row, while.took)
		r.Add(livePath, while.row, times, "", p99(while.took)/p99(done.before))
	}
}

func p99(took []time.Duration) float64 {
	return report.Milliseconds(report.At(slices.Sorted(slices.Values(took)), 0.99))
}
