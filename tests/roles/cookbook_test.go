//go:build integration

package roles

import (
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/clickhouse"
	"github.com/lotline/lotline/schemas"
)

const cookbook = "../../services/projector/COOKBOOK.md"

var update = flag.Bool("update", false, "write the cookbook's answers anew; read the difference")

// A recipe is a query and, after an empty line, the table that it answers.
var recipe = regexp.MustCompile("(?s)```sql\n(.*?)\n```\n\n?((?:\\|[^\n]*\n)*)")

// Every query of the cookbook gives the answer that stands below it, to the user who is to ask it, on a history whose
// events came twice and in disorder.
func TestTheCookbook(t *testing.T) {
	ch := startClickHouse(t)
	writer, err := clickhouse.NewWriter(ch.as("lotline_writer"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, writer.Close()) })
	records := shopHistory(t)
	twice := append(records, records...)
	random := rand.New(rand.NewPCG(1, 1))
	random.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
	for half := range 2 {
		require.NoError(t, writer.Apply(t.Context(), twice[half*len(records):(half+1)*len(records)]))
	}
	owner := ch.owner(t)
	require.NoError(t, owner.Exec(t.Context(), "SYSTEM REFRESH VIEW mv_sku_hours"))
	require.Eventually(t, func() bool {
		var lines uint64
		require.NoError(t, owner.QueryRow(t.Context(), "SELECT sum(lines_requested) FROM bi_hourly").Scan(&lines))
		return lines == 9
	}, time.Minute, 50*time.Millisecond)

	text, err := os.ReadFile(cookbook)
	require.NoError(t, err)
	recipes := recipe.FindAllStringSubmatch(string(text), -1)
	require.Len(t, recipes, strings.Count(string(text), "```sql"))
	var views []string
	rows, err := owner.Query(t.Context(), "SELECT name FROM system.tables WHERE database = 'lotline' AND engine = 'View'")
	require.NoError(t, err)
	for rows.Next() {
		var view string
		require.NoError(t, rows.Scan(&view))
		views = append(views, view)
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, views)
	for _, view := range views {
		require.Contains(t, string(text), "FROM "+view, "every view has a recipe")
	}

	answered := string(text)
	for _, r := range recipes {
		answer := ch.ask(t, "lotline_bi", r[1])
		if *update {
			if r[2] == "" { // the empty line was that after the query
				answer += "\n"
			}
			answered = strings.Replace(answered, r[0], "```sql\n"+r[1]+"\n```\n\n"+answer, 1)
			continue
		}
		require.Equal(t, r[2], answer, r[1])
	}
	if *update {
		require.NoError(t, os.WriteFile(cookbook, []byte(answered), 0o644))
	}
}

// ask returns the answer to a query as a table in Markdown.
func (ch clickHouse) ask(t *testing.T, user, query string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+ch.HTTPAddr+"/?database="+database+"&default_format=Markdown", strings.NewReader(query))
	require.NoError(t, err)
	password, err := os.ReadFile(ch.passwords[user])
	require.NoError(t, err)
	request.SetBasicAuth(user, strings.TrimSpace(string(password)))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s\n%s", query, answer)
	return string(answer)
}

// shopHistory is two days of a shop, with something of everything that the views tell.
func shopHistory(t *testing.T) []readmodel.Record {
	t.Helper()
	const (
		created, changed   = schemas.EventBatchCreated, schemas.EventBatchQuantityChanged
		allocated, removed = schemas.EventAllocated, schemas.EventDeallocated
		out                = schemas.EventOutOfStock
		ignored, rejected  = schemas.EventCommandIgnored, schemas.EventCommandRejected
	)
	var records []readmodel.Record
	versions := make(map[string]uint64)
	// event adds one of the command that came at a time; those of one command have the same time, and the last one is last.
	event := func(at string, e schemas.Event) {
		when, err := time.Parse("2006-01-02 15:04", at)
		require.NoError(t, err)
		n := len(records)
		e.CommandID, e.CommandSource, e.Last = "c-"+strings.NewReplacer("2025-03-0", "", " ", "-", ":", "").Replace(at)+"-"+e.SKU, "/web-shop", true
		if n > 0 && records[n-1].Event.CommandID == e.CommandID {
			e.Seq, records[n-1].Event.Last = records[n-1].Event.Seq+1, false
		}
		if e.Type.ChangesState() {
			versions[e.SKU]++
		}
		e.Version = versions[e.SKU]
		records = append(records, readmodel.Record{Event: e, ID: "t/0/" + e.CommandID + "/" + string('0'+e.Seq), Time: when, Offset: int64(n)})
	}
	batch := func(at, sku string, kind schemas.EventType, ref string, qty, left int32, eta string, available int64) {
		event(at, schemas.Event{Type: kind, SKU: sku, BatchRef: ref, BatchQty: qty, BatchAvailable: left, ETA: eta, Available: available})
	}
	line := func(at, sku string, kind schemas.EventType, order string, qty int32, ref string, batchQty, left int32, eta string, available int64, reason string) {
		event(at, schemas.Event{
			Type: kind, SKU: sku, OrderID: order, Qty: qty, BatchRef: ref, BatchQty: batchQty, BatchAvailable: left, ETA: eta, Available: available, Reason: reason,
		})
	}
	const cut = "batch_quantity_changed"
	batch("2025-03-03 08:05", "CHAIR", created, "b-1", 10, 10, "", 10)
	batch("2025-03-03 08:06", "CHAIR", created, "b-2", 20, 20, "2025-03-10", 30)
	line("2025-03-03 09:10", "CHAIR", allocated, "order-1", 4, "b-1", 10, 6, "", 26, "")
	line("2025-03-03 09:40", "CHAIR", allocated, "order-2", 5, "b-1", 10, 1, "", 21, "")
	line("2025-03-03 10:15", "CHAIR", allocated, "order-3", 6, "b-2", 20, 14, "2025-03-10", 15, "")
	line("2025-03-04 09:00", "CHAIR", removed, "order-1", 4, "b-1", 10, 5, "", 19, "requested")
	line("2025-03-04 09:30", "CHAIR", removed, "order-2", 5, "b-1", 10, 10, "", 24, cut)
	batch("2025-03-04 09:30", "CHAIR", changed, "b-1", 3, 3, "", 17)
	line("2025-03-04 09:30", "CHAIR", allocated, "order-2", 5, "b-2", 20, 9, "2025-03-10", 12, "")
	line("2025-03-04 11:20", "CHAIR", out, "order-4", 15, "", 0, 0, "", 12, "")

	batch("2025-03-03 08:30", "LAMP", created, "l-1", 6, 6, "", 6)
	line("2025-03-03 09:05", "LAMP", allocated, "order-1", 6, "l-1", 6, 0, "", 0, "")
	line("2025-03-03 09:50", "LAMP", out, "order-3", 2, "", 0, 0, "", 0, "")
	line("2025-03-04 09:10", "LAMP", out, "order-3", 2, "", 0, 0, "", 0, "")
	batch("2025-03-04 10:00", "LAMP", created, "l-2", 12, 12, "2025-03-06", 12)
	line("2025-03-04 10:05", "LAMP", allocated, "order-3", 2, "l-2", 12, 10, "2025-03-06", 10, "")

	batch("2025-03-03 09:00", "TABLE", created, "t-1", 3, 3, "", 3)
	line("2025-03-03 11:00", "TABLE", allocated, "order-2", 2, "t-1", 3, 1, "", 1, "")
	line("2025-03-04 12:00", "TABLE", removed, "order-2", 2, "t-1", 3, 3, "", 3, cut)
	batch("2025-03-04 12:00", "TABLE", changed, "t-1", 1, 1, "", 1)
	line("2025-03-04 12:00", "TABLE", out, "order-2", 2, "", 0, 0, "", 1, "")
	batch("2025-03-04 12:30", "TABLE", created, "t-2", 40, 40, "2199-01-02", 41)

	event("2025-03-03 09:11", schemas.Event{Type: ignored, SKU: "CHAIR", OrderID: "order-1", Reason: "duplicate_line", Message: "Line (order-1, CHAIR) is already allocated to batch b-1"})
	event("2025-03-03 09:20", schemas.Event{Type: rejected, SKU: "SOFA", OrderID: "order-5", Reason: "invalid_sku", Message: "Invalid sku SOFA"})
	event("2025-03-03 09:21", schemas.Event{Type: rejected, SKU: "SOFA", OrderID: "order-5", Reason: "invalid_sku", Message: "Invalid sku SOFA"})
	event("2025-03-04 08:00", schemas.Event{Type: rejected, SKU: "CHAIR", OrderID: "order-2", Reason: "conflicting_line", Message: "Line (order-2, CHAIR) is allocated with quantity 5"})
	return records
}
