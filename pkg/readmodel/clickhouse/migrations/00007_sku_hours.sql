-- What happened to each sku in each hour: the roll-up behind most views for BI. Adding up within a view of events
-- would count a redelivered event twice, so the hours that got events, new or repeated, are counted again as a whole,
-- once a minute, from events without their copies.
--
-- The last row that a refresh writes is a mark: hour 0 and no sku, written when everything before it is. The next
-- refresh takes the hours of all events that were written since the mark, less two minutes: an event can be read up to
-- one minute (the writer's longest insert) after the time in its ingested_at. A refresh that fails half way leaves no
-- mark, so the next one does its hours too. ORDER BY is what makes the mark the last.

-- +goose Up
ALTER TABLE {{local "events"}} ADD INDEX IF NOT EXISTS ix_ingested_at ingested_at TYPE minmax GRANULARITY 1;

ALTER TABLE {{local "events"}} MATERIALIZE INDEX ix_ingested_at;

CREATE TABLE IF NOT EXISTS {{local "sku_hours"}}
(
    hour                 DateTime('UTC') COMMENT 'Start of the hour, UTC' CODEC(Delta, ZSTD(1)),
    sku                  String COMMENT 'Stock-keeping unit; empty: a mark, see refreshed_at',
    version              UInt64 COMMENT 'The version of the sku at the end of the hour; 0: a mark, or nothing happened after all',
    available            Int64 COMMENT 'Units left over all batches of the sku at the end of the hour',
    lines_from_stock     UInt64 COMMENT 'Order lines that were asked for and allocated to a batch that had arrived',
    units_from_stock     UInt64 COMMENT 'Their units',
    lines_from_shipments UInt64 COMMENT 'Order lines that were asked for and allocated to a batch still to arrive',
    units_from_shipments UInt64 COMMENT 'Their units',
    lines_out_of_stock   UInt64 COMMENT 'Order lines that were asked for and that no batch could take',
    units_out_of_stock   UInt64 COMMENT 'Their units',
    lines_deallocated    UInt64 COMMENT 'Order lines that were given back on request',
    units_deallocated    UInt64 COMMENT 'Their units',
    lines_moved          UInt64 COMMENT 'Order lines that left a batch which was cut and found a place again',
    units_moved          UInt64 COMMENT 'Their units',
    lines_dropped        UInt64 COMMENT 'Order lines that left a batch which was cut and found no place',
    units_dropped        UInt64 COMMENT 'Their units',
    refreshed_at         DateTime64(3, 'UTC') COMMENT 'When the refresh began that counted this; in a mark: a refresh that is complete' CODEC(Delta, ZSTD(1))
)
ENGINE = {{engine "ReplacingMergeTree" "refreshed_at"}}
PARTITION BY toYear(hour)
ORDER BY (hour, sku)
COMMENT 'What happened to each sku in each hour, counted once a minute. Read bi_hourly';
{{distributed "sku_hours" "sku"}}

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_sku_hours REFRESH EVERY 1 MINUTE APPEND TO {{local "sku_hours"}}
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH
    (SELECT max(refreshed_at) - INTERVAL 2 MINUTE FROM {{local "sku_hours"}} WHERE hour = 0 AND sku = '') AS since,
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
        now64(3, 'UTC') AS refreshed_at
    FROM {{local "events"}} AS e FINAL
    WHERE toStartOfHour(event_time) IN (SELECT toStartOfHour(event_time) FROM {{local "events"}} WHERE ingested_at >= since)
    GROUP BY hour, sku
    UNION ALL
    SELECT toDateTime(0, 'UTC'), '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, now64(3, 'UTC')
)
ORDER BY sku = '', hour, sku
SETTINGS do_not_merge_across_partitions_select_final = 1, optimize_aggregation_in_order = 1, max_threads = 1
COMMENT 'Feeds sku_hours once a minute';
