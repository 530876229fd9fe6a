-- Where the server's clock is set back by more than two minutes, the hours of what is written until it has caught up were not counted:
-- the mark of the last refresh was ahead of every new ingested_at. And what was counted again for another reason counted for less than
-- what was counted before, which said that it was newer.
--
-- So a refresh looks back two minutes from the mark or from now, whichever is earlier, and what it writes is newer than the mark
-- whatever the clock says. What was written before a refresh that failed while the clock is behind is the next one's only within two
-- minutes: the mark does not say what the clock was.

-- +goose Up
DROP VIEW IF EXISTS mv_sku_hours;

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_sku_hours REFRESH EVERY 1 MINUTE APPEND TO {{local "sku_hours"}}
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH
    (SELECT max(refreshed_at) FROM {{local "sku_hours"}} WHERE hour = 0 AND sku = '') AS marked,
    least(marked, now64(3, 'UTC')) - INTERVAL 2 MINUTE AS since,
    greatest(marked + INTERVAL 1 MILLISECOND, now64(3, 'UTC')) AS refreshing,
    type IN ('Allocated', 'OutOfStock') AND seq = 0 AS is_request, -- what follows a cut has events of its command before it
    ifNull(eta > toDate32(event_time), 0) AS is_to_come
SELECT hour, sku, version, available, lines_from_stock, units_from_stock, lines_from_shipments, units_from_shipments, lines_out_of_stock,
       units_out_of_stock, lines_deallocated, units_deallocated, lines_moved, units_moved, lines_dropped, units_dropped, refreshed_at
FROM
(
    SELECT
        toStartOfHour(event_time) AS hour,
        sku,
        max(e.version) AS version,
        argMax(e.available, e.version) AS available,
        countIf(is_request AND type = 'Allocated' AND NOT is_to_come) AS lines_from_stock,
        sumIf(qty, is_request AND type = 'Allocated' AND NOT is_to_come) AS units_from_stock,
        countIf(is_request AND type = 'Allocated' AND is_to_come) AS lines_from_shipments,
        sumIf(qty, is_request AND type = 'Allocated' AND is_to_come) AS units_from_shipments,
        countIf(is_request AND type = 'OutOfStock') AS lines_out_of_stock,
        sumIf(qty, is_request AND type = 'OutOfStock') AS units_out_of_stock,
        countIf(type = 'Deallocated' AND reason = 'requested') AS lines_deallocated,
        sumIf(qty, type = 'Deallocated' AND reason = 'requested') AS units_deallocated,
        countIf(NOT is_request AND type = 'Allocated') AS lines_moved,
        sumIf(qty, NOT is_request AND type = 'Allocated') AS units_moved,
        countIf(NOT is_request AND type = 'OutOfStock') AS lines_dropped,
        sumIf(qty, NOT is_request AND type = 'OutOfStock') AS units_dropped,
        refreshing AS refreshed_at
    FROM {{local "events"}} AS e FINAL
    WHERE toStartOfHour(event_time) IN (SELECT toStartOfHour(event_time) FROM {{local "events"}} WHERE ingested_at >= since)
    GROUP BY hour, sku
    UNION ALL
    SELECT toDateTime(0, 'UTC'), '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, refreshing
)
ORDER BY sku = '', hour, sku
SETTINGS do_not_merge_across_partitions_select_final = 1, optimize_aggregation_in_order = 1, max_threads = 1
COMMENT 'Feeds sku_hours once a minute';
