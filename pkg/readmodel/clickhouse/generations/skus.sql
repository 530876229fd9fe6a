CREATE TABLE IF NOT EXISTS {{local (print "skus_g" .)}}
(
    sku        String COMMENT 'Stock-keeping unit',
    version    UInt64 COMMENT 'Its newest version',
    available  Int64 COMMENT 'Units left over all its batches',
    event_time DateTime64(3, 'UTC') COMMENT 'When the command that changed it was appended to the command log' CODEC(Delta, ZSTD(1)),
    INDEX ix_sku sku TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {{engine "ReplacingMergeTree" "version"}}
ORDER BY sku
SETTINGS index_granularity = 256, min_bytes_for_wide_part = '100G', min_rows_for_wide_part = 1000000000
COMMENT 'Skus and what they have left, generation {{.}}. Read skus, with FINAL';
{{distributed (print "skus_g" .) "sku"}}

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_skus_g{{.}} TO skus_g{{.}}
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT sku, version, available, event_time
FROM {{local "events"}}
COMMENT 'Feeds skus_g{{.}}';
