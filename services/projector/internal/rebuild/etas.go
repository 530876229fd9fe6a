package rebuild

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
)

// etasMax bounds the batches whose eta is remembered: about 100 bytes each.
const etasMax = 1_000_000

// etas remembers when batches arrive, which never changes. The zero value is ready, and it is safe for concurrent use.
type etas struct {
	mu sync.RWMutex
	of map[string]string // by SKU and ref, see batchKey
}

// batchKey appends a batch's key to buf. Neither field has a control character.
func batchKey(buf []byte, sku, ref string) []byte {
	return append(append(append(buf, sku...), 0), ref...)
}

// fill sets the eta of lines that have a batch. Those of batches that it does not know yet it reads from a connection that is not
// busy with the lines, and after them: then the batches are there.
func (e *etas) fill(ctx context.Context, from querier, lines []readmodel.LineRow) error {
	unknown := e.known(lines)
	if len(unknown) == 0 {
		return nil
	}
	asked := make(map[string]bool)
	var skus, refs []string
	var key []byte
	for _, i := range unknown {
		l := &lines[i]
		if key = batchKey(key[:0], l.SKU, l.BatchRef); !asked[string(key)] {
			asked[string(key)] = true
			skus, refs = append(skus, l.SKU), append(refs, l.BatchRef)
		}
	}
	found, days := make(map[string]string, len(skus)), make(days)
	if err := scan(ctx, from, `SELECT b.sku, b.ref, b.eta FROM unnest($1::text[], $2::text[]) AS k (sku, ref) JOIN batches b USING (sku, ref)`,
		[]any{skus, refs}, func(v [][]byte) error {
			found[string(batchKey(nil, string(v[0]), string(v[1])))] = days.of(v[2])
			return nil
		}); err != nil {
		return fmt.Errorf("read the etas of %d batches: %w", len(skus), err)
	}
	for _, i := range unknown {
		key = batchKey(key[:0], lines[i].SKU, lines[i].BatchRef)
		lines[i].ETA = found[string(key)]
	}
	e.remember(found)
	return nil
}

// learn remembers the etas of batches that were read anyway.
func (e *etas) learn(batches []readmodel.BatchRow) {
	found := make(map[string]string, len(batches))
	for i := range batches {
		found[string(batchKey(nil, batches[i].SKU, batches[i].Ref))] = batches[i].ETA
	}
	e.remember(found)
}

// known sets the etas that are remembered, and returns which lines are left.
func (e *etas) known(lines []readmodel.LineRow) (unknown []int) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var key []byte
	for i := range lines {
		l := &lines[i]
		if l.BatchRef == "" {
			continue
		}
		key = batchKey(key[:0], l.SKU, l.BatchRef)
		eta, known := e.of[string(key)]
		if !known {
			unknown = append(unknown, i)
			continue
		}
		l.ETA = eta
	}
	return unknown
}

func (e *etas) remember(found map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of == nil || len(e.of)+len(found) > etasMax {
		e.of = make(map[string]string, len(found))
	}
	for key, eta := range found {
		e.of[key] = eta
	}
}

// days writes each distinct day once.
type days map[int32]string

func (d days) of(b []byte) string {
	if b == nil {
		return ""
	}
	n := int32Of(b)
	day, known := d[n]
	if !known {
		day = postgresEpoch.AddDate(0, 0, int(n)).Format(time.DateOnly)
		d[n] = day
	}
	return day
}
