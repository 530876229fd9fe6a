//go:build integration

package allocator_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/schemas"
)

func TestACommandBecomesAnEvent(t *testing.T) {
	for name, install := range map[string]func(*testing.T) *bench{"kfake": onKfake, "kafka": onKafka} {
		t.Run(name, func(t *testing.T) {
			b := install(t)
			b.start()
			b.send(b.command("c1", create("b1", "RED-CHAIR", 10)), b.command("c2", allocate("o1", "RED-CHAIR", 3)))
			got := b.events(2)
			require.Equal(t, schemas.Event{
				Type: schemas.EventAllocated, SKU: "RED-CHAIR", Version: 2, CommandID: "c2", CommandSource: "test", Last: true,
				OrderID: "o1", Qty: 3, BatchRef: "b1", BatchQty: 10, BatchAvailable: 7, Available: 7,
			}, got[1].Event)
		})
	}
}
