-- The views that people and dashboards read: each says what it counts, and how to use it without counting twice. They
-- read with the rights of who made them, so that a user needs none on the tables below. What they show is exact however
-- often and in whatever order events were written.

-- +goose Up
CREATE VIEW IF NOT EXISTS bi_hourly
(
    hour                 DateTime('UTC') COMMENT 'Start of the hour in UTC. For days of another time zone: toDate(hour, ''Europe/Berlin'')',
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
    lines_moved          UInt64 COMMENT 'Order lines that had to leave a batch whose quantity was cut, and got another place',
    units_moved          UInt64 COMMENT 'Their units',
    lines_dropped        UInt64 COMMENT 'Order lines that had to leave a batch whose quantity was cut, and have no place now',
    units_dropped        UInt64 COMMENT 'Their units',
    units_left           Int64 COMMENT 'Units left over all batches of the sku at the end of the hour, those to arrive included. A level: never add it up over hours, use bi_availability',
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

CREATE VIEW IF NOT EXISTS bi_service_levels
(
    day                Date COMMENT 'Day in UTC',
    sku                String COMMENT 'Stock-keeping unit',
    lines_requested    UInt64 COMMENT 'Order lines that were asked for, each time they were',
    units_requested    UInt64 COMMENT 'Their units',
    units_from_stock   UInt64 COMMENT 'Of them: allocated to batches that had arrived',
    units_allocated    UInt64 COMMENT 'Of them: allocated, to batches that had arrived or were to arrive',
    units_out_of_stock UInt64 COMMENT 'Of them: no batch could take the line',
    fill_rate          Nullable(Float64) COMMENT 'units_from_stock / units_requested: what could be sent at once, 0 to 1. NULL: nothing was asked for',
    out_of_stock_rate  Nullable(Float64) COMMENT 'units_out_of_stock / units_requested, 0 to 1. NULL: nothing was asked for'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT toDate(h.hour) AS day, h.sku AS sku,
       sum(h.lines_requested) AS lines_requested, sum(h.units_requested) AS units_requested, sum(h.units_from_stock) AS units_from_stock,
       sum(h.units_allocated) AS units_allocated, sum(h.units_out_of_stock) AS units_out_of_stock,
       units_from_stock / nullIf(units_requested, 0) AS fill_rate, units_out_of_stock / nullIf(units_requested, 0) AS out_of_stock_rate
FROM bi_hourly AS h
GROUP BY day, sku
COMMENT 'Fill rate and out-of-stock rate of each sku and day. For several skus or days divide sums of units: sum(units_from_stock) / sum(units_requested). Up to a minute behind: bi_freshness';

CREATE VIEW IF NOT EXISTS bi_top_skus
(
    day                Date COMMENT 'Day in UTC',
    place              UInt64 COMMENT 'Place of the sku among those of the day, by units requested; 1 is the first, and among equals the name decides',
    sku                String COMMENT 'Stock-keeping unit',
    lines_requested    UInt64 COMMENT 'Order lines that were asked for',
    units_requested    UInt64 COMMENT 'Their units',
    units_allocated    UInt64 COMMENT 'Of them: allocated',
    units_out_of_stock UInt64 COMMENT 'Of them: out of stock'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT day, row_number() OVER (PARTITION BY day ORDER BY units_requested DESC, sku) AS place,
       sku, lines_requested, units_requested, units_allocated, units_out_of_stock
FROM bi_service_levels
WHERE units_requested > 0
COMMENT 'Skus of each day by the units asked for: WHERE place <= 10. For the top of several days add units_requested up by sku in bi_hourly instead';

CREATE VIEW IF NOT EXISTS bi_availability
(
    hour       DateTime('UTC') COMMENT 'Start of the hour in UTC',
    sku        String COMMENT 'Stock-keeping unit',
    units_left Int64 COMMENT 'Units left over all batches of the sku at the end of the hour, those to arrive included',
    available  Bool COMMENT 'Whether there was any. Share of hours in which there was: avg(available)'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH (SELECT max(hour) FROM sku_hours FINAL WHERE version > 0) AS newest
SELECT arrayJoin(arrayMap(n -> h + n * 3600, range(intDiv(until - h, 3600)))) AS hour, sku, units_left, CAST(units_left > 0, 'Bool') AS available
FROM
(
    SELECT sku, hour AS h, sku_hours.available AS units_left,
           leadInFrame(h, 1, assumeNotNull(newest) + INTERVAL 1 HOUR) OVER (PARTITION BY sku ORDER BY h ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS until
    FROM sku_hours FINAL
    WHERE version > 0
)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'What each sku had left, for every hour since its first batch, also those in which nothing happened, up to the newest hour with any event. A level: add it up over skus within an hour, never over hours. WHERE sku = ... spares most of the work, WHERE hour >= ... none of it';

CREATE VIEW IF NOT EXISTS bi_lead_times
(
    hour      DateTime('UTC') COMMENT 'Start of the hour in UTC in which the lines were asked for',
    sku       String COMMENT 'Stock-keeping unit',
    lead_days UInt32 COMMENT 'Days from the day the line was asked for to the day its batch arrives (eta); 0: it was there',
    lines     UInt64 COMMENT 'Order lines that were allocated with that lead time',
    units     UInt64 COMMENT 'Their units. Mean lead time: sum(lead_days * units) / sum(units)'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT toStartOfHour(event_time) AS hour, sku, toUInt32(ifNull(greatest(dateDiff('day', toDate32(event_time), eta), 0), 0)) AS lead_days,
       count() AS lines, sum(toUInt64(qty)) AS units
FROM events FINAL
WHERE type = 'Allocated' AND seq = 0
GROUP BY hour, sku, lead_days
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'How long orders were told to wait when they were allocated, by hour, sku and number of days. Lines that moved to another batch later are not counted again. Add lines and units up over anything; quantiles: quantileExactWeighted(0.9)(lead_days, units). WHERE hour >= ... is fast';

CREATE VIEW IF NOT EXISTS bi_rejections
(
    hour     DateTime('UTC') COMMENT 'Start of the hour in UTC in which the commands came',
    sku      String COMMENT 'Stock-keeping unit that the command named',
    reason   String COMMENT 'Why: a stable code, as invalid_sku, conflicting_line or cut_too_large',
    commands UInt64 COMMENT 'Commands that were rejected, each time they were sent'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT toStartOfHour(event_time) AS hour, sku, reason, count() AS commands
FROM (SELECT DISTINCT commandid, event_id, event_time, sku, reason FROM outcomes WHERE type = 'CommandRejected')
GROUP BY hour, sku, reason
COMMENT 'Rejected commands by reason, hour and sku: what order systems do wrong. Add commands up over anything. What could not be read at all is not here: it is in the topic of dead letters';

CREATE VIEW IF NOT EXISTS bi_skus
(
    sku              String COMMENT 'Stock-keeping unit',
    units_left       Int64 COMMENT 'Units left over all its batches: can be promised',
    units_in_stock   Int64 COMMENT 'Of them: in batches that have arrived by today (UTC)',
    units_to_arrive  Int64 COMMENT 'Of them: in batches that are still to arrive',
    next_eta         Nullable(Date32) COMMENT 'Day the next batch with units left arrives; NULL: none is to arrive',
    batches          UInt64 COMMENT 'Batches it has ever had',
    units_purchased  Int64 COMMENT 'Units purchased over all its batches'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT sku, sum(available) AS units_left, units_left - units_to_arrive AS units_in_stock,
       sumIf(available, ifNull(eta > toDate32(now('UTC')), 0)) AS units_to_arrive,
       minIf(eta, ifNull(eta > toDate32(now('UTC')), 0) AND available > 0) AS next_eta,
       count() AS batches, sum(qty) AS units_purchased
FROM stock FINAL
GROUP BY sku
COMMENT 'Every sku as it is now: what is left and when more comes. One row a sku';

CREATE VIEW IF NOT EXISTS bi_batches
(
    sku             String COMMENT 'Stock-keeping unit',
    batchref        String COMMENT 'Reference of the batch, unique within its sku',
    eta             Nullable(Date32) COMMENT 'Day the batch arrives; NULL: it was in stock from the start',
    units_purchased Int32 COMMENT 'Units purchased',
    units_left      Int32 COMMENT 'Units left',
    units_allocated Int32 COMMENT 'Units that order lines hold: units_purchased - units_left',
    changed_at      DateTime64(3, 'UTC') COMMENT 'When the command was given that changed it last'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT sku, ref AS batchref, eta, qty AS units_purchased, available AS units_left, toInt32(qty - available) AS units_allocated, event_time AS changed_at
FROM stock FINAL
COMMENT 'Every batch of stock as it is now. One row a sku and batchref';

CREATE VIEW IF NOT EXISTS bi_order_lines
(
    orderid      String COMMENT 'Order',
    sku          String COMMENT 'Stock-keeping unit',
    units        Int32 COMMENT 'Units of the line',
    batchref     String COMMENT 'Batch that the line is allocated to',
    eta          Nullable(Date32) COMMENT 'Day that batch arrives; NULL: it was in stock from the start',
    allocated_at DateTime64(3, 'UTC') COMMENT 'When the command was given that put the line into this batch'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT orderid, sku, qty AS units, batchref, eta, event_time AS allocated_at
FROM order_lines FINAL
COMMENT 'Every order line that is allocated now. One row an orderid and sku; lines that are out of stock or were given back are not here';

CREATE VIEW IF NOT EXISTS bi_events
(
    hour            DateTime('UTC') COMMENT 'Start of the hour of event_time: name a span of hours, and little is read',
    event_time      DateTime64(3, 'UTC') COMMENT 'When the command was given, by the clock of the broker',
    sku             String COMMENT 'Stock-keeping unit',
    version         UInt64 COMMENT 'The version of the sku after this event: 1, 2, 3, ... without gaps',
    type            String COMMENT 'BatchCreated, BatchQuantityChanged, Allocated, Deallocated or OutOfStock',
    is_request      Bool COMMENT 'Whether an order line was asked for: Allocated or OutOfStock, but not what a cut of a batch led to',
    orderid         String COMMENT 'Order of the line; empty for events of a batch',
    units           Int32 COMMENT 'Units of the line; 0 for events of a batch',
    batchref        String COMMENT 'Batch that the event is about; empty for OutOfStock',
    eta             Nullable(Date32) COMMENT 'Day that batch arrives; NULL: it was in stock from the start, or OutOfStock',
    batch_purchased Int32 COMMENT 'Units purchased in the batch after this event. A level: do not add up',
    batch_left      Int32 COMMENT 'Units left in the batch after this event. A level: do not add up',
    units_left      Int64 COMMENT 'Units left over all batches of the sku after this event. A level: do not add up',
    reason          String COMMENT 'Why a line was deallocated: requested or batch_quantity_changed; else empty',
    commandid       String COMMENT 'Id of the command that caused this',
    commandsource   String COMMENT 'Who sent it'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT toStartOfHour(event_time) AS hour, event_time, sku, version, toString(type) AS type, CAST(type IN ('Allocated', 'OutOfStock') AND seq = 0, 'Bool') AS is_request,
       orderid, qty AS units, batchref, eta, batch_qty AS batch_purchased, batch_available AS batch_left, available AS units_left, reason, commandid, commandsource
FROM events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Everything that happened to skus, once each, at once. One row a sku and version. The sums are in bi_hourly, which is far cheaper';

CREATE VIEW IF NOT EXISTS bi_commands
(
    commandid     String COMMENT 'Id of the command: its ce_id, or topic/partition/offset. One that was sent twice has two rows',
    commandsource String COMMENT 'Who sent it',
    sent_at       DateTime64(3, 'UTC') COMMENT 'When the command was given, by the clock of the broker',
    outcome       String COMMENT 'Its last event: BatchCreated, BatchQuantityChanged, Allocated, Deallocated, OutOfStock, CommandIgnored or CommandRejected',
    sku           String COMMENT 'Stock-keeping unit that it named',
    orderid       String COMMENT 'Order; empty if it named none',
    batchref      String COMMENT 'Batch; empty if there is none',
    reason        String COMMENT 'Why it was ignored or rejected, or the line deallocated: a stable code',
    message       String COMMENT 'The same as a sentence for people'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT commandid, commandsource, event_time AS sent_at, toString(type) AS outcome, sku, orderid, batchref, reason, message
FROM outcomes FINAL
COMMENT 'What became of each command, each time it was sent: a repeat is a row with CommandIgnored. Every row once. WHERE commandid = ... is fast';

CREATE VIEW IF NOT EXISTS bi_freshness
(
    newest_event_at DateTime64(3, 'UTC') COMMENT 'Time of the newest event that is here: all views but those below show it at once',
    refreshed_at    DateTime64(3, 'UTC') COMMENT 'When bi_hourly, bi_service_levels, bi_top_skus and bi_availability were last refreshed: once a minute. Long ago: look into system.view_refreshes',
    rows_waiting    UInt64 COMMENT 'Events, repeated ones included, that were written since and that those views do not count yet'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH (SELECT max(refreshed_at) FROM sku_hours WHERE hour = 0 AND sku = '') AS refreshed
SELECT (SELECT max(event_time) FROM events) AS newest_event_at, refreshed AS refreshed_at, count() AS rows_waiting
FROM events
WHERE ingested_at >= toDateTime(refreshed)
COMMENT 'How far the views for BI are. One row';
