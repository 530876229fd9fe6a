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
	each(b, func(b *testing.B, encoding Encoding) {
		var dst []byte
		for b.Loop() {
			dst = encoding.AppendCommand(dst[:0], &benchCommand)
		}
	})
}

func BenchmarkDecodeCommand(b *testing.B) {
	each(b, func(b *testing.B, encoding Encoding) {
		data, ceType, contentType := encoding.AppendCommand(nil, &benchCommand), benchCommand.Type.CEType(), encoding.ContentType()
		for b.Loop() {
			if _, err := DecodeCommand(ceType, contentType, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	each(b, func(b *testing.B, encoding Encoding) {
		var dst []byte
		for b.Loop() {
			dst = encoding.AppendEvent(dst[:0], &benchEvent)
		}
	})
}

func BenchmarkDecodeEvent(b *testing.B) {
	each(b, func(b *testing.B, encoding Encoding) {
		data, ceType, contentType := encoding.AppendEvent(nil, &benchEvent), benchEvent.Type.CEType(), encoding.ContentType()
		for b.Loop() {
			if _, err := DecodeEvent(ceType, contentType, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func each(b *testing.B, f func(*testing.B, Encoding)) {
	for _, encoding := range []Encoding{JSON, Protobuf} {
		b.Run(encoding.String(), func(b *testing.B) {
			b.ReportAllocs()
			f(b, encoding)
		})
	}
}

// TestAllocations holds what the benchmarks show: these run once for every record.
func TestAllocations(t *testing.T) {
	dst := make([]byte, 0, 1024)
	for _, encoding := range []Encoding{JSON, Protobuf} {
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = encoding.AppendCommand(dst[:0], &benchCommand) }))
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = encoding.AppendEvent(dst[:0], &benchEvent) }))
	}
}
