-- What happened to a sku and to an order, for people who look into it. The log of events is ordered by the hour, so
-- either would read all of it; a bloom filter of each granule leaves those that may have the id. Both questions are
-- asked without FINAL, where an index on any column is safe.

-- +goose Up
ALTER TABLE {{local "events"}}
    ADD INDEX IF NOT EXISTS ix_sku sku TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS ix_orderid orderid TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE {{local "events"}} MATERIALIZE INDEX ix_sku;
ALTER TABLE {{local "events"}} MATERIALIZE INDEX ix_orderid;

ALTER TABLE {{local "outcomes"}} ADD INDEX IF NOT EXISTS ix_orderid orderid TYPE bloom_filter(0.01) GRANULARITY 4;
ALTER TABLE {{local "outcomes"}} MATERIALIZE INDEX ix_orderid;
