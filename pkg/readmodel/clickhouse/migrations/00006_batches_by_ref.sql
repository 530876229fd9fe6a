-- Which skus have a batch of a reference: the way from a reference alone, as people write it, to the batch.

-- +goose Up
CREATE TABLE IF NOT EXISTS {{local "batches_by_ref_g1"}}
(
    ref String COMMENT 'Reference of the batch',
    sku String COMMENT 'Stock-keeping unit that has a batch of that reference',
    INDEX ix_ref ref TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (ref, sku)
SETTINGS index_granularity = 256, min_bytes_for_wide_part = '100G', min_rows_for_wide_part = 1000000000
COMMENT 'Skus of a batch reference, generation 1. Read batches_by_ref, with FINAL';
{{distributed "batches_by_ref_g1" "ref"}}

CREATE MATERIALIZED VIEW IF NOT EXISTS mv_batches_by_ref_g1 TO batches_by_ref_g1
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT batchref AS ref, sku
FROM {{local "events"}}
WHERE type = 'BatchCreated'
COMMENT 'Feeds batches_by_ref_g1';

CREATE TABLE IF NOT EXISTS batches_by_ref ENGINE = Alias(batches_by_ref_g1);
