-- Units asked for
SELECT sum(units_requested) AS asked FROM bi_hourly
-- Fill rate
SELECT sum(units_from_stock) / sum(units_requested) AS fill_rate FROM bi_hourly
-- Out-of-stock rate
SELECT sum(units_out_of_stock) / sum(units_requested) AS out_of_stock_rate FROM bi_hourly
-- Mean lead time
SELECT sum(lead_days * units) / sum(units) AS mean_days FROM bi_lead_times
-- What became of the units asked for
SELECT toUnixTimestamp(hour) * 1000 AS hour, sum(units_from_stock) AS from_stock, sum(units_from_shipments) AS from_shipments,
       sum(units_out_of_stock) AS refused
FROM bi_hourly AS h GROUP BY h.hour
-- Service by day
SELECT toUnixTimestamp(toDateTime(day)) * 1000 AS hour, sum(units_from_stock) / sum(units_requested) AS fill_rate,
       sum(units_out_of_stock) / sum(units_requested) AS out_of_stock_rate
FROM bi_service_levels GROUP BY day
-- Units left over time
SELECT toUnixTimestamp(hour) * 1000 AS hour, mapFromArrays(groupArray(sku), groupArray(units_left)) AS by_sku
FROM bi_availability AS a GROUP BY a.hour
-- Availability by SKU
SELECT sku, avg(available) AS availability FROM bi_availability GROUP BY sku
-- Top SKUs
SELECT sku, sum(units_requested) AS asked, sum(units_from_stock) AS from_stock, sum(units_from_shipments) AS from_shipments,
       sum(units_out_of_stock) AS refused, from_stock / asked AS fill_rate, refused / asked AS out_of_stock_rate
FROM bi_hourly GROUP BY sku ORDER BY asked DESC LIMIT 15
-- What is left now
SELECT sku, units_in_stock, units_to_arrive, toUnixTimestamp(toDateTime(next_eta)) * 1000 AS next_eta FROM bi_skus
-- How long customers wait
SELECT lead_days, sum(units) AS units_promised FROM bi_lead_times GROUP BY lead_days
-- Rejected commands by reason
SELECT reason, sum(commands) AS rejected FROM bi_rejections GROUP BY reason
-- What cuts of batches did to orders
SELECT toUnixTimestamp(toStartOfDay(hour)) * 1000 AS hour, sum(lines_moved) AS moved, sum(lines_dropped) AS dropped
FROM bi_hourly AS h GROUP BY toStartOfDay(h.hour)
-- How new this is
SELECT toUnixTimestamp64Milli(newest_event_at) AS newest_event_at, toUnixTimestamp64Milli(refreshed_at) AS refreshed_at, rows_waiting FROM bi_freshness
