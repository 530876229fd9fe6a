package clickhouse

import (
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
)

// eventColumns are the rows of the events table. All slices have the same length.
type eventColumns struct {
	sku            []string
	version        []uint64
	kind           []string
	eventTime      []time.Time
	commandID      []string
	commandSource  []string
	seq            []int32
	last           []bool
	orderID        []string
	qty            []int32
	batchRef       []string
	batchQty       []int32
	batchAvailable []int32
	eta            []*time.Time
	available      []int64
	reason         []string
	partition      []int32
	offset         []int64
}

func (c *eventColumns) add(r *readmodel.Record, eta *time.Time) {
	e := &r.Event
	c.sku = append(c.sku, e.SKU)
	c.version = append(c.version, e.Version)
	c.kind = append(c.kind, e.Type.String())
	c.eventTime = append(c.eventTime, r.Time)
	c.commandID = append(c.commandID, e.CommandID)
	c.commandSource = append(c.commandSource, e.CommandSource)
	c.seq = append(c.seq, e.Seq)
	c.last = append(c.last, e.Last)
	c.orderID = append(c.orderID, e.OrderID)
	c.qty = append(c.qty, e.Qty)
	c.batchRef = append(c.batchRef, e.BatchRef)
	c.batchQty = append(c.batchQty, e.BatchQty)
	c.batchAvailable = append(c.batchAvailable, e.BatchAvailable)
	c.eta = append(c.eta, eta)
	c.available = append(c.available, e.Available)
	c.reason = append(c.reason, e.Reason)
	c.partition = append(c.partition, r.Partition)
	c.offset = append(c.offset, r.Offset)
}

func (c *eventColumns) columns() []column {
	return []column{
		{"sku", c.sku},
		{"version", c.version},
		{"type", c.kind},
		{"event_time", c.eventTime},
		{"commandid", c.commandID},
		{"commandsource", c.commandSource},
		{"seq", c.seq},
		{"last", c.last},
		{"orderid", c.orderID},
		{"qty", c.qty},
		{"batchref", c.batchRef},
		{"batch_qty", c.batchQty},
		{"batch_available", c.batchAvailable},
		{"eta", c.eta},
		{"available", c.available},
		{"reason", c.reason},
		{"kpartition", c.partition},
		{"koffset", c.offset},
	}
}

func (c *eventColumns) reset() {
	*c = eventColumns{
		sku: c.sku[:0], version: c.version[:0], kind: c.kind[:0], eventTime: c.eventTime[:0],
		commandID: c.commandID[:0], commandSource: c.commandSource[:0], seq: c.seq[:0], last: c.last[:0],
		orderID: c.orderID[:0], qty: c.qty[:0],
		batchRef: c.batchRef[:0], batchQty: c.batchQty[:0], batchAvailable: c.batchAvailable[:0], eta: c.eta[:0],
		available: c.available[:0], reason: c.reason[:0],
		partition: c.partition[:0], offset: c.offset[:0],
	}
}

// outcomeColumns are the rows of the outcomes table. All slices have the same length.
type outcomeColumns struct {
	commandID     []string
	commandSource []string
	eventID       []string
	kind          []string
	sku           []string
	version       []uint64
	orderID       []string
	batchRef      []string
	reason        []string
	message       []string
	eventTime     []time.Time
	partition     []int32
	offset        []int64
}

func (c *outcomeColumns) add(r *readmodel.Record) {
	e := &r.Event
	c.commandID = append(c.commandID, e.CommandID)
	c.commandSource = append(c.commandSource, e.CommandSource)
	c.eventID = append(c.eventID, r.ID)
	c.kind = append(c.kind, e.Type.String())
	c.sku = append(c.sku, e.SKU)
	c.version = append(c.version, e.Version)
	c.orderID = append(c.orderID, e.OrderID)
	c.batchRef = append(c.batchRef, e.BatchRef)
	c.reason = append(c.reason, e.Reason)
	c.message = append(c.message, e.Message)
	c.eventTime = append(c.eventTime, r.Time)
	c.partition = append(c.partition, r.Partition)
	c.offset = append(c.offset, r.Offset)
}

func (c *outcomeColumns) columns() []column {
	return []column{
		{"commandid", c.commandID},
		{"commandsource", c.commandSource},
		{"event_id", c.eventID},
		{"type", c.kind},
		{"sku", c.sku},
		{"version", c.version},
		{"orderid", c.orderID},
		{"batchref", c.batchRef},
		{"reason", c.reason},
		{"message", c.message},
		{"event_time", c.eventTime},
		{"kpartition", c.partition},
		{"koffset", c.offset},
	}
}

func (c *outcomeColumns) reset() {
	*c = outcomeColumns{
		commandID: c.commandID[:0], commandSource: c.commandSource[:0], eventID: c.eventID[:0], kind: c.kind[:0],
		sku: c.sku[:0], version: c.version[:0], orderID: c.orderID[:0], batchRef: c.batchRef[:0],
		reason: c.reason[:0], message: c.message[:0], eventTime: c.eventTime[:0],
		partition: c.partition[:0], offset: c.offset[:0],
	}
}
