package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// report is what `lotline rebuild --json` prints, as far as it is used here, and what it cost.
type report struct {
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
}

// cost is the CPU time of a process.
type cost struct {
	name string
	time time.Duration
}

// rebuild runs `lotline rebuild`.
func (s *site) rebuild(ctx context.Context) (*report, error) {
	processes, err := s.processes()
	if err != nil {
		return nil, err
	}
	r := new(report)
	for _, p := range processes {
		used, err := p.CPU()
		if err != nil {
			return nil, err
		}
		r.cpu = append(r.cpu, cost{p.Name, -used})
	}
	var out bytes.Buffer
	c := exec.CommandContext(ctx, filepath.Join(s.dir, "lotline"), "rebuild", "--from=state", "--json", "--skus-max=5", fmt.Sprintf("--workers=%d", s.Workers),
		"--kafka-brokers="+strings.Join(s.on.Kafka, ","), "--kafka-topic-prefix="+s.on.TopicPrefix,
		"--clickhouse-addrs="+s.on.ClickHouse, "--clickhouse-database="+s.on.Database)
	c.Env = append(os.Environ(), "LOTLINE_POSTGRES_URL="+s.on.PostgresURL)
	c.Stdout, c.Stderr = &out, os.Stderr
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

// print compares the filling with reading and inserting alone, one after the other, in lines a second each.
func (r *report) print(f flags, read, insert float64) {
	lines := float64(f.Lines)
	row := func(name, format string, values ...any) {
		fmt.Printf("  %-52s "+format+"\n", append([]any{name}, values...)...)
	}
	fmt.Printf("rebuild of %d order lines from state, %d rows in all, %d workers\n", f.Lines, r.Rows, f.Workers)
	row("filled", "%10.0f lines/s, %6.1f s", lines/r.FillSeconds, r.FillSeconds)
	row("  of it reading Postgres, by all workers", "%27.1f s", r.ReadSeconds)
	row("  and writing to ClickHouse, by all workers", "%27.1f s", r.LoadSeconds)
	row("caught up and compared", "%10.0f lines/s, %6.1f s", lines/r.CompareSeconds, r.CompareSeconds)
	row("  of it adding up all rows", "%10.0f lines/s, %6.1f s", lines/r.SumSeconds, r.SumSeconds)
	row("switched", "%27.3f s", r.SwitchSeconds)
	row("its memory, at most", "%25d MiB", r.memory>>20)
	fmt.Println("floor: the same without a rebuild and with nothing else running")
	row("order lines read from Postgres, and dropped", "%10.0f lines/s", read)
	row("order lines inserted from memory", "%10.0f lines/s", insert)
	floor := 1 / (1/read + 1/insert)
	row("one after the other", "%10.0f lines/s", floor)
	row("the rebuild's filling, as a multiple of that", "%10.2f", lines/r.FillSeconds/floor)
	fmt.Println("CPU while it ran, of the live path too, in microseconds a line")
	for _, c := range r.cpu {
		row(c.name, "%10.2f", float64(c.time.Microseconds())/lines)
	}
}
