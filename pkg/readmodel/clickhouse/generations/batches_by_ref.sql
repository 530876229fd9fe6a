CREATE TABLE IF NOT EXISTS {{local (print "batches_by_ref_g" .)}}
(
    ref String COMMENT 'Reference of the batch',
    sku String COMMENT 'Stock-keeping unit that has a batch of that reference',
    INDEX ix_ref ref TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (ref, sku)
SETTINGS index_granularity = 256, min_bytes_for_wide_part = '100G', min_rows_for_wide_part = 1000000000
COMMENT 'Skus of a batch reference, generation {{.}}. Read batches_by_ref, with FINAL';
{{distributed (print "batches_by_ref_g" .) "ref"}}

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_batches_by_ref_g{{.}} TO batches_by_ref_g{{.}}
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT batchref AS ref, sku
FROM {{local "events"}}
WHERE type = 'BatchCreated'
COMMENT 'Feeds batches_by_ref_g{{.}}';
