// Package workload makes commands as a busy day brings them: SKUs with several batches, with and without etas,
// order lines, quantity cuts, deallocations, repeats, and what should never arrive but does.
//
// The crash scenarios and benchmarks call it. It imports nothing of Lotline. The same seed gives the same lines.
package workload

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Mix says what a workload is made of.
type Mix struct {
	Seed     uint64
	Commands int // lines in all
	SKUs     int
}

// Counts says what Lines made, so that a run can be held against it.
type Counts struct {
	Lines, Unreadable, UnknownSKU, Repeats int
}

const batchesPerSKU = 4

// Lines returns the workload as NDJSON lines for `lotline send --send-bad`. The first lines create the batches. Of the
// rest 1 % are bytes that nobody can read, 1 % name a SKU that does not exist, 2 % repeat an earlier line with its id,
// 2 % cut or raise a batch, 3 % deallocate, and the others allocate; a batch runs out now and then.
func Lines(m Mix) ([]string, Counts) {
	rng := rand.New(rand.NewPCG(m.Seed, 1))
	lines := make([]string, 0, m.Commands)
	var counts Counts
	var orders []string // "orderid sku" that were allocated
	sku := func() string { return fmt.Sprintf("SKU-%04d", rng.IntN(m.SKUs)) }
	var readable []string
	add := func(format string, args ...any) {
		lines = append(lines, fmt.Sprintf(format, args...))
		readable = append(readable, lines[len(lines)-1])
	}
	perSKU := max(1, m.Commands/m.SKUs)
	for s := range m.SKUs {
		for b := range batchesPerSKU {
			eta := "null"
			if b > 0 {
				eta = fmt.Sprintf(`"2031-%02d-%02d"`, 1+rng.IntN(12), 1+rng.IntN(28))
			}
			add(`{"type":"CreateBatch","id":"w-%d","ref":"batch-%d","sku":"SKU-%04d","qty":%d,"eta":%s}`,
				len(lines), b, s, perSKU/2+rng.IntN(perSKU), eta)
		}
	}
	for len(lines) < m.Commands {
		id := len(lines)
		switch dice := rng.IntN(100); {
		case dice < 1:
			counts.Unreadable++
			lines = append(lines, unreadable(rng, id))
		case dice < 2:
			counts.UnknownSKU++
			add(`{"type":"Allocate","id":"w-%d","orderid":"o-%d","sku":"NO-SUCH-%d","qty":1}`, id, id, rng.IntN(50))
		case dice < 4:
			counts.Repeats++
			add("%s", readable[rng.IntN(len(readable))])
		case dice < 6:
			add(`{"type":"ChangeBatchQuantity","id":"w-%d","ref":"batch-%d","sku":"%s","qty":%d}`,
				id, rng.IntN(batchesPerSKU), sku(), rng.IntN(perSKU))
		case dice < 9 && len(orders) > 0:
			order, of, _ := strings.Cut(orders[rng.IntN(len(orders))], " ")
			add(`{"type":"Deallocate","id":"w-%d","orderid":"%s","sku":"%s"}`, id, order, of)
		default:
			order, of := fmt.Sprintf("o-%d", id/3), sku()
			orders = append(orders, order+" "+of)
			add(`{"type":"Allocate","id":"w-%d","orderid":"%s","sku":"%s","qty":%d}`, id, order, of, 1+rng.IntN(4))
		}
	}
	counts.Lines = len(lines)
	return lines, counts
}

// unreadable makes bytes that are no command, of several kinds. None holds a line break.
func unreadable(rng *rand.Rand, id int) string {
	switch rng.IntN(4) {
	case 0:
		return fmt.Sprintf(`{"type":"Allocate","id":"w-%d","orderid":"o-%d","sku":`, id, id)
	case 1:
		return fmt.Sprintf("\xff\xfe\x00 not a command %d", id)
	case 2:
		return fmt.Sprintf(`{"type":"Allocate","id":"w-%d","orderid":"","sku":"SKU-0001","qty":1e30}`, id)
	default:
		return fmt.Sprintf(`["Allocate", %d]`, id)
	}
}
