package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/lotline/lotline/pkg/readmodel/rowsum"
)

// outcomes is what became of commands, the last event of each, by bucket of SKUs. Many change no version, so versions
// cannot tell a store that is behind: compared are those that the projector had passed before anything was read, and
// that the topic still has. Of those ClickHouse must have every one.
type outcomes struct {
	marks map[int32]int64 // per partition of the events: all below was projected
	sums  map[int32]outcomeSum
	hash  hasher
}

// outcomesListedMax bounds the rows that are held in memory to name the ones that differ.
const outcomesListedMax = 500_000

type outcomeSum struct {
	rows int64
	rest uint64 // their checksums
}

// covers reports whether an event is an outcome that is to be compared.
func (o *outcomes) covers(e *logged) bool { return e.Last && e.offset < o.marks[e.partition] }

func (o *outcomes) add(e *logged) {
	if !o.covers(e) {
		return
	}
	if o.sums == nil {
		o.sums = make(map[int32]outcomeSum, buckets)
	}
	b := bucketOf(e.SKU)
	total := o.sums[b]
	total.rows++
	total.rest ^= o.hash.Row(outcomeRow, e.SKU, e.CommandID, e.CommandSource, e.id, e.Type.String(),
		strconv.FormatUint(e.Version, 10), e.OrderID, e.BatchRef, e.Reason, e.Message)
	o.sums[b] = total
}

// compareOutcomes holds ClickHouse's outcomes against those of the events, and returns the buckets that differ. The events
// must have been read to their end once.
func (j *judge) compareOutcomes(ctx context.Context, r *Report) (differ []int32, err error) {
	if j.ClickHouse == nil {
		return nil, nil
	}
	stored, err := j.outcomeSums(ctx)
	if err != nil {
		return nil, fmt.Errorf("sum up the outcomes that ClickHouse has: %w", err)
	}
	listed := int64(0)
	for b := range int32(buckets) {
		is, should := stored[b], j.outcomes.sums[b]
		r.Outcomes += should.rows
		switch {
		case is == should:
		case len(differ) == 0 || listed+is.rows+should.rows <= outcomesListedMax:
			differ = append(differ, b)
			listed += is.rows + should.rows
		default:
			r.WrongMore++ // in this bucket at least
		}
	}
	return differ, nil
}

// listOutcomes names the outcomes that differ in some buckets, where should are those of the events.
func (j *judge) listOutcomes(ctx context.Context, buckets []int32, should rowSet) ([]Fault, error) {
	is, err := j.outcomesOfClickHouse(ctx, buckets, should)
	if err != nil {
		return nil, fmt.Errorf("read the outcomes that differ from ClickHouse: %w", err)
	}
	skus := make(map[string]bool)
	for _, set := range []rowSet{is, should} {
		for key := range set {
			skus[key.sku] = true
		}
	}
	return (&folded{rows: should}).differences(storeClickHouse, slices.Sorted(maps.Keys(skus)), is), nil
}

func (j *judge) outcomeSums(ctx context.Context) (map[int32]outcomeSum, error) {
	sql := `SELECT ` + clickHouseBucket + ` AS bucket, toInt64(count()), groupBitXor(` +
		rowsum.ClickHouse(outcomeRow, "sku", "commandid", "commandsource", "event_id", "toString(type)", "toString(version)", "orderid", "batchref", "reason", "message") +
		`) FROM outcomes FINAL WHERE ` + j.comparedOutcomes() + ` GROUP BY bucket`
	sums := make(map[int32]outcomeSum)
	var bucket int32
	var one outcomeSum
	return sums, eachRow(ctx, j.ClickHouse, sql, nil, []any{&bucket, &one.rows, &one.rest}, func() { sums[bucket] = one })
}

// comparedOutcomes is the condition that a row of ClickHouse is one that covers takes, and that the topic still has.
func (j *judge) comparedOutcomes() string {
	return "(" + below(j.outcomes.marks) + " AND NOT " + below(j.log.starts) + ")"
}

// addOutcome takes an event that is an outcome.
func (s rowSet) addOutcome(e *logged) error {
	return s.add(e.SKU, outcomeName(e.CommandID, e.id), outcomeSays(e.Type.String(), e.Version, e.CommandSource, e.OrderID, e.BatchRef, e.Reason, e.Message))
}

// outcomesOfClickHouse returns the compared rows of a few buckets, and those that should be there though their place in
// the topic says otherwise: an event that was published twice is stored once, at its later place.
func (j *judge) outcomesOfClickHouse(ctx context.Context, of []int32, should rowSet) (rowSet, error) {
	sql := `SELECT sku, commandid, event_id, toString(type), version, commandsource, orderid, batchref, reason, message, ` + j.comparedOutcomes() + `
		FROM outcomes FINAL WHERE ` + clickHouseBucket + ` IN (@buckets)`
	found := make(rowSet)
	var failed error
	var sku, commandID, eventID, kind, source, orderID, batchRef, reason, message string
	var version uint64
	var compared uint8
	err := eachRow(ctx, j.ClickHouse, sql, []any{clickhouse.Named("buckets", of)},
		[]any{&sku, &commandID, &eventID, &kind, &version, &source, &orderID, &batchRef, &reason, &message, &compared}, func() {
			name := outcomeName(commandID, eventID)
			if _, wanted := should[row{sku, name}]; (wanted || compared == 1) && failed == nil {
				failed = found.add(sku, name, outcomeSays(kind, version, source, orderID, batchRef, reason, message))
			}
		})
	return found, errors.Join(err, failed)
}

func outcomeName(commandID, eventID string) string {
	return fmt.Sprintf("outcome %s (event %s)", commandID, eventID)
}

func outcomeSays(kind string, version uint64, source, orderID, batchRef, reason, message string) string {
	return fmt.Sprintf("%s at version %d, source %q, order %q, batch %q, %q, %q", kind, version, source, orderID, batchRef, reason, message)
}
