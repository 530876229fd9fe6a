package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/lotline/lotline/schemas"
)

// historySettings let ClickHouse sort a long history on disk instead of in memory.
var historySettings = clickhouse.Settings{"max_bytes_before_external_sort": 256 << 20}

// history hands over the events that the topic no longer has, those below where log begins, and returns how many they
// were: of some SKUs, or of all if skus is nil. They come from ClickHouse's log of events, by SKU and version.
//
// That log cannot be held against itself. A hole or a doubled version in it is found all the same, and so is whatever
// makes it come to another state than Postgres has.
func (j *judge) history(ctx context.Context, log *eventLog, skus []string, add func(e *logged)) (events int, err error) {
	if log.isWhole() {
		return 0, nil
	}
	if j.ClickHouse == nil {
		return 0, fmt.Errorf("the topic %s no longer has its first events, and only the log in ClickHouse would: Postgres cannot be held against them", log.topic)
	}
	sql, args := `SELECT sku, version, toString(type), orderid, qty, batchref, batch_qty, batch_available,
		ifNull(toString(eta), ''), available, commandid, reason, toUnixTimestamp64Milli(event_time), kpartition, koffset
		FROM events FINAL WHERE `+below(log.starts), []any(nil)
	if skus != nil {
		sql, args = sql+` AND sku IN {skus:Array(String)}`, []any{clickhouse.Named("skus", skus)}
	}
	e := logged{topic: log.topic}
	var kind string
	var unknown error
	err = eachRow(clickhouse.Context(ctx, clickhouse.WithSettings(historySettings)), j.ClickHouse, sql+` ORDER BY sku, version`, args,
		[]any{
			&e.SKU, &e.Version, &kind, &e.OrderID, &e.Qty, &e.BatchRef, &e.BatchQty, &e.BatchAvailable,
			&e.ETA, &e.Available, &e.CommandID, &e.Reason, &e.time, &e.partition, &e.offset,
		}, func() {
			if e.Type, unknown = typeNamed(kind); unknown == nil {
				events++
				add(&e)
			}
		})
	if err == nil {
		err = unknown
	}
	if err != nil {
		return events, fmt.Errorf("read the events that the topic no longer has from ClickHouse: %w", err)
	}
	return events, nil
}

func typeNamed(name string) (schemas.EventType, error) {
	for t := schemas.EventBatchCreated; t <= schemas.EventCommandRejected; t++ {
		if t.String() == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("the type %s is not one that this build knows", name)
}

// below is the condition that a row of ClickHouse is of an event below these offsets of the events topic.
func below(offsets map[int32]int64) string {
	condition := "0"
	for _, p := range slices.Sorted(maps.Keys(offsets)) {
		condition += fmt.Sprintf(" OR kpartition = %d AND koffset < %d", p, offsets[p])
	}
	return "(" + condition + ")"
}
