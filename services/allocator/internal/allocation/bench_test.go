package allocation

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var benchLimits = Limits{CutLinesMax: 100_000, CommandIDRetention: 7 * 24 * time.Hour}

// BenchmarkAllocate: a line that fits into the least preferred batch only, in chunks
// of 1,000 commands.
func BenchmarkAllocate(b *testing.B) {
	for _, open := range []int{1, 300, 10_000} {
		b.Run(fmt.Sprint("batches=", open), func(b *testing.B) {
			batches := make([]Batch, open)
			for i := range batches {
				batches[i] = Batch{Ref: fmt.Sprint("b", i), ETA: "2031-01-01", CreatedVersion: uint64(i) + 1, Qty: 1e9, Available: 1}
			}
			batches[open-1].Available = 1e9
			p := NewProduct("SKU", uint64(open), batches, &benchLimits)
			commands := make([]Command, 1000)
			for i := range commands {
				id := fmt.Sprint("o", i)
				commands[i] = Command{Kind: Allocate, SKU: "SKU", OrderID: id, Qty: 2, ID: CommandID{Source: "shop", ID: id}}
			}
			var events []Event
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%len(commands) == 0 {
					p.Settle()
					p.Learn(Facts{})
					p.supply(p.batches.get(batches[open-1].Ref), int32(2*len(commands)))
				}
				events, _ = p.Decide(commands[i%len(commands)], events[:0])
			}
			require.Equal(b, Allocated, events[0].Kind)
		})
	}
}

// BenchmarkCut: 10,000 lines leave a batch for another.
func BenchmarkCut(b *testing.B) {
	const lines = 10_000
	cut := Batch{Ref: "cut", CreatedVersion: 1, CreatedQty: lines, Qty: lines}
	spare := Batch{Ref: "spare", ETA: "2031-01-01", CreatedVersion: 2, CreatedQty: lines, Qty: lines, Available: lines}
	newest := make([]Line, lines)
	for i := range newest {
		newest[i] = Line{OrderID: fmt.Sprint("o", i), Qty: 1, BatchRef: cut.Ref, AllocatedVersion: uint64(2 + lines - i)}
	}
	facts := Facts{Batches: []Batch{cut}, Newest: map[string]NewestLines{cut.Ref: {Lines: newest, Complete: true}}}
	var events []Event
	b.ReportAllocs()
	for b.Loop() {
		p := NewProduct("SKU", 2+lines, []Batch{spare}, &benchLimits)
		p.Learn(facts)
		events, _ = p.Decide(Command{Kind: ChangeBatchQuantity, SKU: "SKU", Ref: cut.Ref}, events[:0])
		p.Changes()
		p.Settle()
	}
	require.Len(b, events, 2*lines+1)
}
