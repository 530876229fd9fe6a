-- The read model's log: every event that changed a sku's state, as published. All other tables of the read
-- model but outcomes are derived from it by views, and can be built again from it: hence no TTL.
--
-- The hour comes first in the order key so that a question about a span of time reads that span only; the
-- event's time is its command's append time, so an event that is written again replaces itself. koffset breaks
-- the tie if it was published twice.

-- +goose Up
CREATE TABLE IF NOT EXISTS {{local "events"}}
(
    sku             String COMMENT 'Stock-keeping unit',
    version         UInt64 COMMENT 'The version of the sku after this event: 1, 2, 3, ... without gaps',
    type            Enum8('BatchCreated' = 1, 'BatchQuantityChanged' = 2, 'Allocated' = 3, 'Deallocated' = 4, 'OutOfStock' = 5)
                    COMMENT 'What happened',
    event_time      DateTime64(3, 'UTC') COMMENT 'When the command was appended to the command log, by the clock of the broker' CODEC(Delta, ZSTD(1)),
    commandid       String COMMENT 'Id of the command that caused this: its ce_id, or topic/partition/offset' CODEC(ZSTD(1)),
    commandsource   String COMMENT 'ce_source of the command, empty if it had none' CODEC(ZSTD(1)),
    seq             Int32 COMMENT 'Position among the events of the command, from 0',
    last            Bool COMMENT 'Whether this is the last event of the command',
    orderid         String COMMENT 'Order of the line; empty for events of a batch' CODEC(ZSTD(1)),
    qty             Int32 COMMENT 'Quantity of the line, in units; 0 for events of a batch',
    batchref        String COMMENT 'Batch that the event is about; empty for OutOfStock',
    batch_qty       Int32 COMMENT 'Units purchased in the batch after this event',
    batch_available Int32 COMMENT 'Units left in the batch after this event',
    eta             Nullable(Date32) COMMENT 'Day the batch arrives; NULL: in stock',
    available       Int64 COMMENT 'Units left over all batches of the sku after this event',
    reason          String COMMENT 'Why a line was deallocated: requested or batch_quantity_changed; else empty' CODEC(ZSTD(1)),
    kpartition      Int32 COMMENT 'Partition of the events topic that this row was read from',
    koffset         Int64 COMMENT 'Offset in that partition' CODEC(Delta, ZSTD(1)),
    ingested_at     DateTime('UTC') DEFAULT now() COMMENT 'When this row was written here; differs between copies of an event' CODEC(Delta, ZSTD(1))
)
ENGINE = {{engine "ReplacingMergeTree" "koffset"}}
PARTITION BY toYYYYMM(event_time)
ORDER BY (toStartOfHour(event_time), sku, version)
COMMENT 'Every event that changed the state of a sku. Read with FINAL: an event may be stored more than once';
{{distributed "events" "sku"}}
