package main

import "github.com/lotline/lotline/tests/bench/report"

// plots are drawn of what was measured.
func plots() []report.Plot {
	latencies := []string{"p50", "p99", "p99.9"}
	return []report.Plot{
		{Name: "rows", Title: "Commands decided and published, beside the ceiling", Table: throughput, Measures: []string{"commands", "ceiling"}, Y: "commands/s"},
		{Name: "order-lines", Title: "With more order lines in Postgres", Table: throughput, Measures: []string{"commands"}, Row: linesRow, X: "order lines", Y: "commands/s"},
		{Name: "skus", Title: "With more SKUs", Table: throughput, Measures: []string{"commands"}, Row: skusRow, X: "SKUs", Y: "commands/s"},
		{Name: "cuts", Title: "One cut of a batch", Table: cutting, Measures: []string{"took"}, Row: cutRow, X: "order lines that move", Y: "ms", Steep: true},
		{Name: "to-event", Title: "From when a command is due to its event", Table: toEvent, Measures: latencies, Row: rateRow, X: "commands/s", Y: "ms"},
		{Name: "to-row", Title: "From when a command is due to a row in ClickHouse", Table: toRow, Measures: latencies, Row: rateRow, X: "commands/s", Y: "ms"},
	}
}
