-- What became of each command: its last event. Written by the projector itself, since commands that were
-- ignored or rejected have no row in events.

-- +goose Up
CREATE TABLE IF NOT EXISTS {{local "outcomes"}}
(
    commandid     String COMMENT 'Id of the command: its ce_id, or topic/partition/offset' CODEC(ZSTD(1)),
    commandsource String COMMENT 'ce_source of the command, empty if it had none' CODEC(ZSTD(1)),
    event_id      String COMMENT 'ce_id of the event: topic id/partition/offset/seq of the command; one command sent twice has two' CODEC(ZSTD(1)),
    type          Enum8('BatchCreated' = 1, 'BatchQuantityChanged' = 2, 'Allocated' = 3, 'Deallocated' = 4, 'OutOfStock' = 5,
                        'CommandIgnored' = 6, 'CommandRejected' = 7)
                  COMMENT 'The last event of the command',
    sku           String COMMENT 'Stock-keeping unit that the command named',
    version       UInt64 COMMENT 'The version of the sku after the command; 0: the sku is unknown',
    orderid       String COMMENT 'Order of the line; empty if the command named none' CODEC(ZSTD(1)),
    batchref      String COMMENT 'Batch; empty if there is none',
    reason        String COMMENT 'Why it was ignored or rejected, or the line deallocated: a stable code' CODEC(ZSTD(1)),
    message       String COMMENT 'The same as a sentence for people' CODEC(ZSTD(1)),
    event_time    DateTime64(3, 'UTC') COMMENT 'When the command was appended to the command log. Of several outcomes of an id the first by (event_time, kpartition, koffset) is the one that counts' CODEC(Delta, ZSTD(1)),
    kpartition    Int32 COMMENT 'Partition of the events topic that this row was read from',
    koffset       Int64 COMMENT 'Offset in that partition' CODEC(Delta, ZSTD(1)),
    INDEX ix_commandid commandid TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {{engine "ReplacingMergeTree" "koffset"}}
ORDER BY (commandid, event_id)
SETTINGS index_granularity = 256, min_bytes_for_wide_part = '100G', min_rows_for_wide_part = 1000000000
COMMENT 'What became of each command: one row for each time it was sent. Read with FINAL';
{{distributed "outcomes" "commandid"}}
