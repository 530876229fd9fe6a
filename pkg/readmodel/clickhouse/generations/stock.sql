CREATE TABLE IF NOT EXISTS {{local (print "stock_g" .)}}
(
    sku        String COMMENT 'Stock-keeping unit',
    ref        String COMMENT 'Reference of the batch, unique within its sku',
    version    UInt64 COMMENT 'The version of the sku at the batch''s latest change',
    is_deleted UInt8 COMMENT '1: the batch is gone; FINAL leaves it out. Nothing deletes batches yet',
    qty        Int32 COMMENT 'Units purchased',
    available  Int32 COMMENT 'Units left: purchased less allocated',
    eta        Nullable(Date32) COMMENT 'Day the batch arrives; NULL: in stock',
    event_time DateTime64(3, 'UTC') COMMENT 'When the command that changed it was appended to the command log' CODEC(Delta, ZSTD(1)),
    INDEX ix_sku sku TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {{engine "ReplacingMergeTree" "version" "is_deleted"}}
ORDER BY (sku, ref)
SETTINGS index_granularity = 256, min_bytes_for_wide_part = '100G', min_rows_for_wide_part = 1000000000
COMMENT 'Batches and what they have left, generation {{.}}. Read stock, with FINAL';
{{distributed (print "stock_g" .) "sku"}}

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_stock_g{{.}} TO stock_g{{.}}
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT sku, batchref AS ref, version, 0 AS is_deleted, batch_qty AS qty, batch_available AS available, eta, event_time
FROM {{local "events"}}
WHERE batchref != ''
COMMENT 'Feeds stock_g{{.}}';
