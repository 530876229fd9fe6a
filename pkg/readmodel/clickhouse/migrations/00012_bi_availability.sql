-- bi_availability had two faults. Of a sku whose commands come over two partitions (some were added, or shops hash differently)
-- version 3 may be of a command of 10:59 and version 2 of one of 11:01: what is left is what the highest version says, not that of the
-- latest hour. And the hours of silence were counted out for all rows at once, which is more memory than anybody has once thousands of
-- skus have been quiet for a year. ARRAY JOIN hands on what it makes a block at a time, as arrayJoin() does not, and what it is given is a
-- month of hours for a block's rows at the most.
--
-- The comments of bi_hourly say what a level of an hour, a moved line and a day of another time zone are.

-- +goose Up
CREATE OR REPLACE VIEW bi_hourly
(
    hour                 DateTime('UTC') COMMENT 'Start of the hour in UTC. For days of another time zone, if it is whole hours from UTC: toDate(hour, ''Europe/Berlin''); else count bi_events',
    sku                  String COMMENT 'Stock-keeping unit',
    lines_requested      UInt64 COMMENT 'Order lines that were asked for. Who asks again after an out-of-stock counts again; repeats of an allocated line and rejected commands do not count',
    units_requested      UInt64 COMMENT 'Their units: units_from_stock + units_from_shipments + units_out_of_stock',
    lines_allocated      UInt64 COMMENT 'Of the lines requested: got a batch. Lines that only moved between batches are in lines_moved',
    units_allocated      UInt64 COMMENT 'Their units: units_from_stock + units_from_shipments',
    lines_from_stock     UInt64 COMMENT 'Of the lines allocated: to a batch that had arrived when the line was asked for',
    units_from_stock     UInt64 COMMENT 'Their units. Fill rate: sum(units_from_stock) / sum(units_requested)',
    lines_from_shipments UInt64 COMMENT 'Of the lines allocated: to a batch that was still to arrive',
    units_from_shipments UInt64 COMMENT 'Their units',
    lines_out_of_stock   UInt64 COMMENT 'Of the lines requested: no batch could take them',
    units_out_of_stock   UInt64 COMMENT 'Their units. Out-of-stock rate: sum(units_out_of_stock) / sum(units_requested)',
    lines_deallocated    UInt64 COMMENT 'Order lines that were given back on request',
    units_deallocated    UInt64 COMMENT 'Their units',
    lines_moved          UInt64 COMMENT 'Order lines that had to leave a batch whose quantity was cut, and got a place again, in another batch or in what is left of that one',
    units_moved          UInt64 COMMENT 'Their units',
    lines_dropped        UInt64 COMMENT 'Order lines that had to leave a batch whose quantity was cut, and have no place now',
    units_dropped        UInt64 COMMENT 'Their units',
    units_left           Int64 COMMENT 'Units left over all batches of the sku, those to arrive included, after what was decided last of the hour''s commands. A level: never add it up over hours, use bi_availability, which also knows what was decided later of earlier ones',
    refreshed_at         DateTime64(3, 'UTC') COMMENT 'When this row was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT hour, sku,
       lines_from_stock + lines_from_shipments + lines_out_of_stock AS lines_requested,
       units_from_stock + units_from_shipments + units_out_of_stock AS units_requested,
       lines_from_stock + lines_from_shipments AS lines_allocated,
       units_from_stock + units_from_shipments AS units_allocated,
       lines_from_stock, units_from_stock, lines_from_shipments, units_from_shipments, lines_out_of_stock, units_out_of_stock,
       lines_deallocated, units_deallocated, lines_moved, units_moved, lines_dropped, units_dropped,
       available AS units_left, refreshed_at
FROM sku_hours FINAL
WHERE version > 0
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What was asked for, allocated, given back and moved: a row for each sku and hour in which anything happened to it. Add lines_ and units_ up over any skus and hours; make rates of sums, never averages of rates. Up to a minute behind: bi_freshness';

CREATE OR REPLACE VIEW bi_availability
(
    hour       DateTime('UTC') COMMENT 'Start of the hour in UTC',
    sku        String COMMENT 'Stock-keeping unit',
    units_left Int64 COMMENT 'Units left over all batches of the sku after all commands up to the end of the hour, those to arrive included',
    available  Bool COMMENT 'Whether there was any. Share of hours in which there was: avg(available)'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH (SELECT max(hour) FROM sku_hours FINAL WHERE version > 0) AS newest
SELECT toDateTime(n, 'UTC') AS hour, sku, units_left, CAST(units_left > 0, 'Bool') AS available
FROM
(
    SELECT sku, units_left, step, least(step + 2592000, until) AS upto -- thirty days
    FROM
    (
        SELECT sku, hour AS h, argMax(sku_hours.available, version) OVER (PARTITION BY sku ORDER BY h ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS units_left,
               toUInt32(leadInFrame(h, 1, assumeNotNull(newest) + INTERVAL 1 HOUR) OVER (PARTITION BY sku ORDER BY h ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING)) AS until
        FROM sku_hours FINAL
        WHERE version > 0
    )
    ARRAY JOIN range(toUInt32(h), until, 2592000) AS step
)
ARRAY JOIN range(step, upto, 3600) AS n
SETTINGS do_not_merge_across_partitions_select_final = 1, max_block_size = 8192
COMMENT 'What each sku had left, for every hour since its first batch, also those in which nothing happened, up to the newest hour with any event. A level: add it up over skus within an hour, never over hours. WHERE sku = ... spares most of the work, WHERE hour >= ... none of it';
