package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Retention says how long ClickHouse keeps what is no part of the present state.
//
// The log of events has no such setting, on purpose. All other tables are made again from it, so that a rebuild from it
// would lose the orders whose events are gone; verify would find holes in it; and an hour that is counted again for BI,
// because an old event came once more, would be counted from what is left of it. Outcomes feed no other table.
type Retention struct {
	OutcomesDays int `help:"Days for which the outcomes of commands are kept, from when the command was sent; after them /commands/{id} and the views bi_commands and bi_rejections know the command no more. 0 = for ever; at least 40, more than the events topic keeps by default, since lotline verify compares as far back." default:"0" placeholder:"DAYS"`
}

const (
	// outcomesDaysMin is more than the events topic's retention by default, and the week for which Kafka keeps on writing a segment
	// unless it is told otherwise: records go with the newest of theirs.
	outcomesDaysMin = 40
	// outcomesDaysMax keeps the day on which a row goes among those that a ClickHouse DateTime can be, until 2106.
	outcomesDaysMax = 10_000
)

// Validate refuses less than verify compares, and more than a DateTime can hold.
func (r Retention) Validate() error {
	if r.OutcomesDays != 0 && (r.OutcomesDays < outcomesDaysMin || r.OutcomesDays > outcomesDaysMax) {
		return fmt.Errorf("--clickhouse-outcomes-days is %d and must be 0 (for ever) or from %d to %d", r.OutcomesDays, outcomesDaysMin, outcomesDaysMax)
	}
	return nil
}

// apply makes one host's table keep outcomes for so long. A change goes over all rows once; later, rows go when their
// parts are merged, hours after their time.
func (r Retention) apply(ctx context.Context, host *clickhouse.Options, cluster Cluster, log *slog.Logger) (err error) {
	conn, err := clickhouse.Open(host)
	if err != nil {
		return fmt.Errorf("set up the ClickHouse client: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	table := cluster.local(tableOutcomes)
	var engine string
	if err := conn.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = @table", clickhouse.Named("table", table)).Scan(&engine); err != nil {
		return fmt.Errorf("look up how long %s is kept: %w", table, err)
	}
	wanted := fmt.Sprintf("TTL toDateTime(event_time) + toIntervalDay(%d)", r.OutcomesDays)
	change := "MODIFY " + wanted
	if r.OutcomesDays == 0 {
		wanted, change = "", "REMOVE TTL"
	}
	if has := strings.Contains(engine, " TTL "); has == (wanted != "") && strings.Contains(engine, wanted) {
		return nil
	}
	if err := conn.Exec(ctx, "ALTER TABLE "+table+" "+change); err != nil {
		return fmt.Errorf("change how long %s is kept: %w", table, err)
	}
	log.InfoContext(ctx, "retention changed", "table", table, "days", r.OutcomesDays)
	return nil
}
