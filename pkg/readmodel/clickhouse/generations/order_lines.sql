CREATE TABLE IF NOT EXISTS {{local (print "order_lines_g" .)}}
(
    orderid    String COMMENT 'Order',
    sku        String COMMENT 'Stock-keeping unit',
    version    UInt64 COMMENT 'The version of the sku at the line''s latest change',
    is_deleted UInt8 COMMENT '1: the line was deallocated; FINAL leaves it out',
    batchref   String COMMENT 'Batch that the line is allocated to; empty if deallocated',
    qty        Int32 COMMENT 'Quantity of the line, in units',
    eta        Nullable(Date32) COMMENT 'Day the batch arrives; NULL: in stock',
    commandid  String COMMENT 'Command that made the change',
    event_time DateTime64(3, 'UTC') COMMENT 'When that command was appended to the command log' CODEC(Delta, ZSTD(1)),
    INDEX ix_orderid orderid TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {{engine "ReplacingMergeTree" "version" "is_deleted"}}
ORDER BY (orderid, sku)
SETTINGS index_granularity = 256, min_bytes_for_wide_part = '100G', min_rows_for_wide_part = 1000000000
COMMENT 'Allocated order lines, generation {{.}}. Read order_lines, with FINAL';
{{distributed (print "order_lines_g" .) "orderid"}}

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_order_lines_g{{.}} TO order_lines_g{{.}}
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT orderid, sku, version, type = 'Deallocated' AS is_deleted, if(type = 'Deallocated', '', batchref) AS batchref, qty,
       if(type = 'Deallocated', NULL, eta) AS eta, commandid, event_time
FROM {{local "events"}}
WHERE type IN ('Allocated', 'Deallocated')
COMMENT 'Feeds order_lines_g{{.}}';
