package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/lotline/lotline/tests/bench/trial"
)

// ceilingProgram is the program that applies commands from files.
const ceilingProgram = "services/allocator/internal/ceiling"

// ceiling has the same commands applied without Kafka, checks what Postgres has then, and returns commands/s.
func (b *bench) ceiling(ctx context.Context, w *trial.Work) (rate float64, err error) {
	site, err := b.ground.NewSite(ctx, w.Partitions)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	offsets := make(map[int]int64)
	setup, err := b.file("setup", w, w.Setup, offsets)
	if err != nil {
		return 0, err
	}
	commands, err := b.file("commands", w, w.Commands, offsets)
	if err != nil {
		return 0, err
	}
	if err := b.ground.Exec(ctx, "CHECKPOINT"); err != nil {
		return 0, err
	}
	var out, log bytes.Buffer
	c := exec.CommandContext(ctx, filepath.Join(b.ground.Dir, "ceiling"), "--setup="+setup, "--commands="+commands, "--event-content-type="+w.Encoding.String(),
		fmt.Sprintf("--sessions=%d", max(b.Allocators, w.Allocators)*b.Sessions*b.Connections), fmt.Sprintf("--chunk-max=%d", b.ChunkMax), fmt.Sprintf("--cold=%t", w.Cold))
	c.Env = append(os.Environ(), "LOTLINE_POSTGRES_URL="+site.PostgresURL)
	c.Stdout, c.Stderr = &out, &log
	if err := c.Run(); err != nil {
		return 0, fmt.Errorf("the ceiling: %w: %s", err, log.Bytes())
	}
	var result struct {
		Seconds float64 `json:"seconds"`
		Events  int     `json:"events"`
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		return 0, err
	}
	if result.Events != len(w.Commands) {
		return 0, fmt.Errorf("the ceiling made %d events of %d commands", result.Events, len(w.Commands))
	}
	return float64(len(w.Commands)) / result.Seconds, site.CheckState(ctx, w)
}

// file writes commands as the ceiling reads them, in the partitions that they come over.
func (b *bench) file(name string, w *trial.Work, commands []trial.Command, offsets map[int]int64) (string, error) {
	path := filepath.Join(b.ground.Dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	to := bufio.NewWriter(f)
	out := json.NewEncoder(to)
	for i := range commands {
		c := &commands[i]
		p := int(w.Partition(c, w.Partitions))
		if err := out.Encode(map[string]any{
			"partition": p, "offset": offsets[p], "kind": c.Type, "sku": c.SKU, "orderid": c.OrderID, "ref": c.Ref, "qty": c.Qty, "eta": c.ETA,
			"id": c.ID, "source": trial.Source,
		}); err != nil {
			return "", err
		}
		offsets[p]++
	}
	return path, to.Flush()
}
