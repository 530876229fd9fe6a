-- What the read model lacks, and why: events that ClickHouse refused, each with all that it said, and versions of a sku that
-- the topic does not have. The projector writes it and goes on; whoever mends what it is about takes it back.

-- +goose Up
CREATE TABLE IF NOT EXISTS {{local "set_aside"}}
(
    sku        String COMMENT 'Stock-keeping unit that lacks something',
    what       LowCardinality(String) COMMENT 'refused: an event that was refused; missing: a version that was jumped over',
    version    UInt64 COMMENT 'The version of the sku that is lacking; of an outcome that changed nothing, the sku''s',
    event_id   String COMMENT 'ce_id of the event; empty if it is missing',
    reason     String COMMENT 'Why, as a sentence for people' CODEC(ZSTD(1)),
    event      String COMMENT 'The event as JSON; empty if it is missing' CODEC(ZSTD(1)),
    event_time DateTime64(3, 'UTC') COMMENT 'When the command was appended to the command log; of the event that came after it, if it is missing',
    kpartition Int32 COMMENT 'Partition of the events topic; likewise',
    koffset    Int64 COMMENT 'Offset in that partition',
    noted_at   DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When this was noted',
    is_deleted UInt8 COMMENT '1: it is lacking no more; FINAL leaves it out'
)
ENGINE = {{engine "ReplacingMergeTree" "noted_at" "is_deleted"}}
ORDER BY (sku, what, version, event_id)
COMMENT 'What the read model lacks, and why. Read with FINAL';
{{distributed "set_aside" "sku"}}
