package submit

import (
	"testing"

	"github.com/lotline/lotline/schemas"
	"github.com/stretchr/testify/require"
)

// What the tail says of a command has what the command asked for, where the event is about that.
func TestWhoseOutcomeItMayBe(t *testing.T) {
	create := schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b1", SKU: "CHAIR", Qty: 7, ETA: "2030-01-02"}
	allocate := schemas.Command{Type: schemas.CommandAllocate, OrderID: "o1", SKU: "CHAIR", Qty: 7}
	deallocate := schemas.Command{Type: schemas.CommandDeallocate, OrderID: "o1", SKU: "CHAIR"}
	change := schemas.Command{Type: schemas.CommandChangeBatchQuantity, Ref: "b1", SKU: "CHAIR", Qty: 7}
	tests := map[string]struct {
		cmd   schemas.Command
		event schemas.Event
		want  bool
	}{
		"created":                      {create, schemas.Event{Type: schemas.EventBatchCreated, BatchRef: "b1", BatchQty: 7, ETA: "2030-01-02"}, true},
		"created, other quantity":      {create, schemas.Event{Type: schemas.EventBatchCreated, BatchRef: "b1", BatchQty: 3, ETA: "2030-01-02"}, false},
		"created, other eta":           {create, schemas.Event{Type: schemas.EventBatchCreated, BatchRef: "b1", BatchQty: 7}, false},
		"allocated":                    {allocate, schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", Qty: 7, BatchRef: "b1", BatchQty: 20}, true},
		"allocated, other quantity":    {allocate, schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", Qty: 3, BatchRef: "b1", BatchQty: 7}, false},
		"allocated after a cut":        {allocate, schemas.Event{Type: schemas.EventAllocated, OrderID: "o1", Qty: 7, BatchRef: "b1", Seq: 2}, false},
		"out of stock":                 {allocate, schemas.Event{Type: schemas.EventOutOfStock, OrderID: "o1", Qty: 7}, true},
		"out of stock, other quantity": {allocate, schemas.Event{Type: schemas.EventOutOfStock, OrderID: "o1", Qty: 3}, false},
		"deallocated":                  {deallocate, schemas.Event{Type: schemas.EventDeallocated, OrderID: "o1", Qty: 3, BatchRef: "b1", BatchQty: 20}, true},
		"changed, of a late batch":     {change, schemas.Event{Type: schemas.EventBatchQuantityChanged, BatchRef: "b1", BatchQty: 7, ETA: "2030-01-02"}, true},
		"changed, other quantity":      {change, schemas.Event{Type: schemas.EventBatchQuantityChanged, BatchRef: "b1", BatchQty: 3}, false},
		"cut, moved to another batch":  {change, schemas.Event{Type: schemas.EventAllocated, OrderID: "o9", Qty: 3, BatchRef: "b2", BatchQty: 20, Seq: 2}, true},
		"cut, moved back":              {change, schemas.Event{Type: schemas.EventAllocated, OrderID: "o9", Qty: 3, BatchRef: "b1", BatchQty: 7, Seq: 2}, true},
		"other cut, moved back":        {change, schemas.Event{Type: schemas.EventAllocated, OrderID: "o9", Qty: 3, BatchRef: "b1", BatchQty: 5, Seq: 2}, false},
		"cut, moved nowhere":           {change, schemas.Event{Type: schemas.EventOutOfStock, OrderID: "o9", Qty: 3, Seq: 2}, true},
		"no cut":                       {change, schemas.Event{Type: schemas.EventAllocated, OrderID: "o9", Qty: 7, BatchRef: "b2"}, false},
		"rejected":                     {allocate, schemas.Event{Type: schemas.EventCommandRejected, OrderID: "o1", Reason: "invalid_sku"}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.event.SKU = "CHAIR"
			require.Equal(t, test.want, couldBeOf(&test.cmd, &Outcome{Event: test.event, Offset: 5}))
		})
	}
	projected := Outcome{Event: schemas.Event{Type: schemas.EventAllocated, SKU: "CHAIR", OrderID: "o1"}, Offset: -1}
	require.True(t, couldBeOf(&allocate, &projected), "the read model does not say how many")
}
