//go:build integration

package clients

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// skus are the same for every language, so that each SKU's commands meet in its partition. The further ones have bytes
// that a partitioner which hashed characters, or signed bytes otherwise, would put elsewhere.
func skus() []string {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("SKU-%d", i))
	}
	for i := range 20 {
		for _, format := range []string{"STÜHLE-%d", "椅子-%d", "🪑 %d", `"'\%d`, "\u00a0é\u0301%d"} {
			names = append(names, fmt.Sprintf(format, i))
		}
	}
	return names
}

// workload is what one producer sends, as lines of its standard input.
type workload struct {
	lines      string
	sent       int
	ids        []string // of the commands that must have an outcome
	unreadable string   // the id of the one that becomes a dead letter; empty = none
}

func (w *workload) add(t *testing.T, id, kind string, data map[string]any) {
	t.Helper()
	data["type"], data["id"] = kind, id
	line, err := json.Marshal(data)
	require.NoError(t, err)
	w.lines += string(line) + "\n"
	w.sent++
}

// makeWorkload gives each SKU a batch and an order line of this producer's own; some lines are sent again, given back or
// moved by a cut, and some orders are for what nobody has.
func makeWorkload(t *testing.T, producer string, skus []string) workload {
	t.Helper()
	var w workload
	add := func(id, kind string, data map[string]any) {
		w.add(t, producer+" "+id, kind, data)
		w.ids = append(w.ids, producer+" "+id)
	}
	order, batch := "order-"+producer, "batch-"+producer
	for i, sku := range skus {
		create := map[string]any{"ref": batch, "sku": sku, "qty": 5, "eta": nil}
		if i%2 == 1 {
			create["eta"] = "2031-01-02"
		}
		add(fmt.Sprint("create ", i), "CreateBatch", create)
		allocate := map[string]any{"orderid": order, "sku": sku, "qty": 3}
		add(fmt.Sprint("allocate ", i), "Allocate", allocate)
		switch i % 10 {
		case 0:
			add(fmt.Sprint("allocate ", i), "Allocate", allocate)
		case 1:
			add(fmt.Sprint("cut ", i), "ChangeBatchQuantity", map[string]any{"ref": batch, "sku": sku, "qty": 1})
		case 2:
			add(fmt.Sprint("give back ", i), "Deallocate", map[string]any{"orderid": order, "sku": sku})
		case 3:
			add(fmt.Sprint("too many ", i), "Allocate", map[string]any{"orderid": order + "-2", "sku": sku, "qty": 1000})
		case 4:
			add(fmt.Sprint("unknown ", i), "Allocate", map[string]any{"orderid": order, "sku": "NO-" + sku, "qty": 1})
		}
	}
	return w
}

// withUnreadable adds a command that cannot be read.
func (w workload) withUnreadable(t *testing.T) workload {
	t.Helper()
	w.unreadable = "unreadable " + w.ids[0]
	w.add(t, w.unreadable, "Allocate", map[string]any{"orderid": "o", "sku": "SKU-1", "qty": "many"})
	return w
}
