package schemas

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	benchCommand = Command{Type: CommandAllocate, OrderID: "order-0012345", SKU: "SMALL-TABLE", Qty: 3}
	benchEvent   = Event{
		Type: EventAllocated, SKU: "SMALL-TABLE", Version: 123456, Last: true,
		CommandID: "7f1f0a52-6f5a-4b0e-9d0e-9a6f0f8f3c11", CommandSource: "/shop/checkout",
		OrderID: "order-0012345", Qty: 3, BatchRef: "batch-042", BatchQty: 1000, BatchAvailable: 271,
		ETA: "2031-01-02", Available: 5321,
	}
)

func BenchmarkAppendCommand(b *testing.B) {
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst = AppendCommand(dst[:0], &benchCommand)
	}
}

func BenchmarkDecodeCommand(b *testing.B) {
	b.ReportAllocs()
	data, ceType := AppendCommand(nil, &benchCommand), benchCommand.Type.CEType()
	for b.Loop() {
		if _, err := DecodeCommand(ceType, ContentTypeJSON, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst = AppendEvent(dst[:0], &benchEvent)
	}
}

func BenchmarkDecodeEvent(b *testing.B) {
	b.ReportAllocs()
	data, ceType := AppendEvent(nil, &benchEvent), benchEvent.Type.CEType()
	for b.Loop() {
		if _, err := DecodeEvent(ceType, ContentTypeJSON, data); err != nil {
			b.Fatal(err)
		}
	}
}

// TestAllocations holds what the benchmarks show: these run once for every record.
func TestAllocations(t *testing.T) {
	dst := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = AppendCommand(dst[:0], &benchCommand) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = AppendEvent(dst[:0], &benchEvent) }))
}
