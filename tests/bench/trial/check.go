package trial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/tests/verify"
)

const checkMax = 3 * time.Minute // also for a projector to come to the end

// Check holds everything against everything: the events against the commands (each exactly one outcome, no version left
// out, nothing twice), Postgres, and ClickHouse if there was a projector, against a fold of the events, and Postgres against
// what the work must come to. Where Postgres had lines before, no events say so: then events are held against the work.
func (s *Site) Check(ctx context.Context, w *Work) error {
	if w.Lines > 0 {
		return errors.Join(s.CheckEvents(ctx, w), s.CheckState(ctx, w))
	}
	return errors.Join(s.CheckLog(ctx), s.CheckState(ctx, w))
}

// CheckLog is Check of work of any kind: it knows no more than the commands and events.
func (s *Site) CheckLog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkMax)
	defer cancel()
	report, err := verify.Run(ctx, verify.Target{Kafka: s.Config, PostgresURL: s.PostgresURL, ClickHouse: s.clickHouse, Database: s.Config.TopicPrefix})
	if err != nil {
		return err
	}
	return report.Err()
}

// CheckState holds Postgres against what the work must come to: of each command its line, once, in the one batch that
// has room, and as many versions of each SKU as it has batches and lines.
func (s *Site) CheckState(ctx context.Context, w *Work) error {
	conn, err := pgx.Connect(ctx, s.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	wrong, lines := 0, make(map[string]string, len(w.Commands))
	for _, c := range w.Commands {
		lines[c.OrderID] = c.SKU
	}
	var name, sku, batch string
	var qty int32
	var version, available int64
	// Lines from before are of other SKUs, and may be too many to look at each.
	rows, err := conn.Query(ctx, "SELECT orderid, sku, batchref, qty FROM order_lines JOIN products USING (sku) WHERE batchref IS NOT NULL")
	if err != nil {
		return err
	}
	if _, err := pgx.ForEachRow(rows, []any{&name, &sku, &batch, &qty}, func() error {
		if lines[name] != sku || batch != w.ample() || qty != lineQty {
			wrong++
		}
		delete(lines, name)
		return nil
	}); err != nil {
		return err
	}
	var all int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM order_lines").Scan(&all); err != nil {
		return err
	}
	rows, err = conn.Query(ctx, "SELECT sku, version, available FROM products")
	if err != nil {
		return err
	}
	skus := 0
	if _, err := pgx.ForEachRow(rows, []any{&sku, &version, &available}, func() error {
		n := w.touched[sku]
		if skus++; version != int64(w.Batches+n) || available != w.available(n) {
			wrong++
		}
		return nil
	}); err != nil {
		return err
	}
	if wrong > 0 || len(lines) > 0 || skus != w.SKUs || all != w.Lines+len(w.Commands) {
		return fmt.Errorf("%d rows in Postgres are wrong, %d of %d lines are missing, and there are %d of %d SKUs, and %d lines in all, of which %d are from before",
			wrong, len(lines), len(w.Commands), skus, w.SKUs, all, w.Lines)
	}
	return nil
}

// Tally is what is wrong with events.
type Tally struct {
	Missing, Twice int // commands without an event, and events of a command that had one
	Wrong          int // events that cannot be read, that skip a version or go back, or that say another state than the work comes to
}

// CheckEvents holds the events of an alternative, which has its own ways beside them, against the work.
func (s *Site) CheckEvents(ctx context.Context, w *Work) error {
	t, err := s.TallyEvents(ctx, w)
	if err == nil && t != (Tally{}) {
		err = fmt.Errorf("the events are not those of the commands: %+v", t)
	}
	return err
}

// TallyEvents reads all events and counts what is wrong. Those of batches may be there or not.
func (s *Site) TallyEvents(ctx context.Context, w *Work) (t Tally, err error) {
	records, err := verify.ReadTopic(ctx, s.Config, s.Set.Events.Name)
	if err != nil {
		return t, err
	}
	left, lines := make(map[string]string, len(w.Commands)), make(map[string]int)
	for _, c := range w.Commands {
		left[c.ID] = c.OrderID
	}
	seen := make(map[string]bool, len(w.Commands))
	for _, r := range records {
		_, e, err := cloudevents.Decode(r.Headers, r.Value, schemas.DecodeEvent)
		switch {
		case err != nil:
			t.Wrong++
			continue
		case e.Type == schemas.EventBatchCreated:
			continue
		case seen[e.CommandID]:
			t.Twice++
			continue
		}
		seen[e.CommandID] = true
		lines[e.SKU]++
		n := lines[e.SKU]
		if left[e.CommandID] != e.OrderID || e.Type != schemas.EventAllocated || e.Version != uint64(w.Batches+n) ||
			e.BatchRef != w.ample() || e.BatchAvailable != ampleQty-lineQty*int32(n) || e.Available != w.available(n) {
			t.Wrong++
		}
		delete(left, e.CommandID)
	}
	t.Missing = len(left)
	return t, nil
}
