package schemas

import (
	"math"
	"strings"
)

// The samples are what the golden files hold: per message an everyday value, then the limits.

var commandSamples = map[string]Command{
	"lotline.command.v1.CreateBatch/in_stock":      {Type: CommandCreateBatch, Ref: "batch-001", SKU: "SMALL-TABLE", Qty: 100},
	"lotline.command.v1.CreateBatch/eta":           {Type: CommandCreateBatch, Ref: "batch-001", SKU: "SMALL-TABLE", Qty: 100, ETA: "2031-01-02"},
	"lotline.command.v1.CreateBatch/leap_day":      {Type: CommandCreateBatch, Ref: "b", SKU: "s", Qty: math.MaxInt32, ETA: "2028-02-29"},
	"lotline.command.v1.Allocate/plain":            {Type: CommandAllocate, OrderID: "o1", SKU: "SMALL-TABLE", Qty: 3},
	"lotline.command.v1.Allocate/zero":             {Type: CommandAllocate, OrderID: "o1", SKU: "SMALL-TABLE"},
	"lotline.command.v1.Allocate/longest":          {Type: CommandAllocate, OrderID: strings.Repeat("o", MaxIDBytes), SKU: strings.Repeat("家", MaxIDBytes/3), Qty: math.MinInt32},
	"lotline.command.v1.Allocate/escapes":          {Type: CommandAllocate, OrderID: `a"b\c/d`, SKU: "<TABLE> & stool's 🪑 \u2028\u00a0\ufffd", Qty: 1},
	"lotline.command.v1.Deallocate/plain":          {Type: CommandDeallocate, OrderID: "o1", SKU: "SMALL-TABLE"},
	"lotline.command.v1.ChangeBatchQuantity/plain": {Type: CommandChangeBatchQuantity, Ref: "batch-001", SKU: "SMALL-TABLE", Qty: 25},
}

const (
	sampleCommandID = "b9c6cf1e-5a0e-4b6d-8f1c-3f6f1de9a001"
	sampleSource    = "/shop/checkout"
)

var eventSamples = map[string]Event{
	"lotline.event.v1.BatchCreated/in_stock": {
		Type: EventBatchCreated, SKU: "SMALL-TABLE", Version: 1, CommandID: sampleCommandID, CommandSource: sampleSource, Last: true,
		BatchRef: "batch-001", BatchQty: 100, BatchAvailable: 100, Available: 100,
	},
	"lotline.event.v1.BatchCreated/largest": {
		Type: EventBatchCreated, SKU: "SMALL-TABLE", Version: math.MaxUint64, CommandID: "lotline.commands/11/9223372036854775807",
		Seq: math.MaxInt32, BatchRef: "batch-001", BatchQty: math.MaxInt32, BatchAvailable: math.MaxInt32, ETA: "2031-01-02", Available: math.MaxInt64,
	},
	"lotline.event.v1.BatchQuantityChanged/plain": {
		Type: EventBatchQuantityChanged, SKU: "SMALL-TABLE", Version: 9, CommandID: sampleCommandID, CommandSource: sampleSource, Seq: 3, Last: true,
		BatchRef: "batch-001", BatchQty: 25, BatchAvailable: 5, Available: 5,
	},
	"lotline.event.v1.Allocated/plain": {
		Type: EventAllocated, SKU: "SMALL-TABLE", Version: 2, CommandID: sampleCommandID, CommandSource: sampleSource, Last: true,
		OrderID: "o1", Qty: 3, BatchRef: "batch-001", BatchQty: 100, BatchAvailable: 97, ETA: "2031-01-02", Available: 97,
	},
	"lotline.event.v1.Deallocated/requested": {
		Type: EventDeallocated, SKU: "SMALL-TABLE", Version: 3, CommandID: sampleCommandID, CommandSource: sampleSource, Last: true,
		OrderID: "o1", Qty: 3, BatchRef: "batch-001", BatchQty: 100, BatchAvailable: 100, Available: 100, Reason: "requested",
	},
	"lotline.event.v1.Deallocated/overallocated": {
		Type: EventDeallocated, SKU: "SMALL-TABLE", Version: 4, CommandID: sampleCommandID, CommandSource: sampleSource, Seq: 1,
		OrderID: "o2", Qty: 30, BatchRef: "batch-001", BatchQty: 25, BatchAvailable: -5, Available: math.MinInt64, Reason: "batch_quantity_changed",
	},
	"lotline.event.v1.OutOfStock/plain": {
		Type: EventOutOfStock, SKU: "SMALL-TABLE", Version: 5, CommandID: sampleCommandID, CommandSource: sampleSource, Last: true,
		OrderID: "o3", Qty: 500, Available: 97,
	},
	"lotline.event.v1.CommandIgnored/duplicate_line": {
		Type: EventCommandIgnored, SKU: "SMALL-TABLE", Version: 5, CommandID: sampleCommandID, CommandSource: sampleSource, Last: true,
		OrderID: "o1", BatchRef: "batch-001", Reason: "duplicate_line", Message: "Order line o1 is already allocated to batch-001.",
	},
	"lotline.event.v1.CommandRejected/invalid_sku": {
		Type: EventCommandRejected, SKU: "NO-SUCH-<SKU>", CommandID: "lotline.commands/0/7", Last: true,
		OrderID: "o1", Reason: "invalid_sku", Message: "Invalid sku NO-SUCH-<SKU>",
	},
	"lotline.event.v1.CommandRejected/escapes": {
		Type: EventCommandRejected, SKU: "家具", CommandID: sampleCommandID, CommandSource: sampleSource, Last: true,
		BatchRef: "b1", Reason: "conflicting_batch", Message: "\"b1\" \\ \u0000\b\f\n\r\t\u001f\u007f\u2028\u2029 é 🪑",
	},
}
