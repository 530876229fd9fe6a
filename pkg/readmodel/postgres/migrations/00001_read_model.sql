-- The read model in Postgres: what events say, a row a key. A row's version is that of the event which made it; one that
-- arrives with a lower version changes nothing, so events may come twice, late or in any order.
--
-- Text sorts by bytes (COLLATE "C"): the order in which rows are locked is the writer's own, whatever locale a database
-- was made with. No foreign keys: a row depends on its own event alone.

-- +goose Up
CREATE TABLE order_lines_g1 (
    orderid    text COLLATE "C" NOT NULL,
    sku        text COLLATE "C" NOT NULL,
    version    bigint      NOT NULL,
    batchref   text COLLATE "C",
    qty        integer     NOT NULL,
    eta        date,
    commandid  text        NOT NULL,
    event_time timestamptz NOT NULL,
    PRIMARY KEY (orderid, sku)
) WITH (fillfactor = 90);
COMMENT ON TABLE order_lines_g1 IS 'Order lines, generation 1. Read order_lines';
COMMENT ON COLUMN order_lines_g1.orderid IS 'Order';
COMMENT ON COLUMN order_lines_g1.sku IS 'Stock-keeping unit';
COMMENT ON COLUMN order_lines_g1.version IS 'The version of the sku at the line''s latest change';
COMMENT ON COLUMN order_lines_g1.batchref IS 'Batch that the line is allocated to; null: it was deallocated, and the row stays to refuse older ones';
COMMENT ON COLUMN order_lines_g1.qty IS 'Quantity of the line, in units';
COMMENT ON COLUMN order_lines_g1.eta IS 'Day the batch arrives; null: in stock';
COMMENT ON COLUMN order_lines_g1.commandid IS 'Command that made the change';
COMMENT ON COLUMN order_lines_g1.event_time IS 'When that command was appended to the command log';

CREATE TABLE stock_g1 (
    sku        text COLLATE "C" NOT NULL,
    ref        text COLLATE "C" NOT NULL,
    version    bigint      NOT NULL,
    qty        integer     NOT NULL,
    available  integer     NOT NULL,
    eta        date,
    event_time timestamptz NOT NULL,
    PRIMARY KEY (sku, ref)
) WITH (fillfactor = 70);
COMMENT ON TABLE stock_g1 IS 'Batches and what they have left, generation 1. Read stock';
COMMENT ON COLUMN stock_g1.sku IS 'Stock-keeping unit';
COMMENT ON COLUMN stock_g1.ref IS 'Reference of the batch, unique within its sku';
COMMENT ON COLUMN stock_g1.version IS 'The version of the sku at the batch''s latest change';
COMMENT ON COLUMN stock_g1.qty IS 'Units purchased';
COMMENT ON COLUMN stock_g1.available IS 'Units left: purchased less allocated';
COMMENT ON COLUMN stock_g1.eta IS 'Day the batch arrives; null: in stock';
COMMENT ON COLUMN stock_g1.event_time IS 'When the command that changed it was appended to the command log';

-- From a reference alone, as people write it, to its skus. Neither column ever changes, so updates stay HOT.
CREATE INDEX stock_g1_by_ref ON stock_g1 (ref, sku);

CREATE TABLE skus_g1 (
    sku        text COLLATE "C" NOT NULL PRIMARY KEY,
    version    bigint      NOT NULL,
    available  bigint      NOT NULL,
    event_time timestamptz NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE skus_g1 IS 'Skus and what they have left, generation 1. Read skus';
COMMENT ON COLUMN skus_g1.sku IS 'Stock-keeping unit';
COMMENT ON COLUMN skus_g1.version IS 'Its newest version';
COMMENT ON COLUMN skus_g1.available IS 'Units left over all its batches';
COMMENT ON COLUMN skus_g1.event_time IS 'When the command that changed it was appended to the command log';

-- Readers use these names. Another generation is built beside the first, and replaces it here.
CREATE VIEW order_lines AS SELECT orderid, sku, version, batchref, qty, eta, commandid, event_time FROM order_lines_g1 WHERE batchref IS NOT NULL;
COMMENT ON VIEW order_lines IS 'Which batch an order line has';
CREATE VIEW stock AS SELECT sku, ref, version, qty, available, eta, event_time FROM stock_g1;
COMMENT ON VIEW stock IS 'Batches and what they have left';
CREATE VIEW skus AS SELECT sku, version, available, event_time FROM skus_g1;
COMMENT ON VIEW skus IS 'Skus and what they have left';

CREATE TABLE outcomes (
    commandid     text COLLATE "C" NOT NULL PRIMARY KEY,
    commandsource text        NOT NULL,
    type          text        NOT NULL,
    sku           text        NOT NULL,
    version       bigint      NOT NULL,
    orderid       text        NOT NULL,
    batchref      text        NOT NULL,
    reason        text        NOT NULL,
    message       text        NOT NULL,
    event_time    timestamptz NOT NULL,
    kpartition    integer     NOT NULL,
    koffset       bigint      NOT NULL
);
COMMENT ON TABLE outcomes IS 'What became of each command: its last event. Of several commands with one id the first that was sent';
COMMENT ON COLUMN outcomes.commandid IS 'Id of the command: its ce_id, or topic/partition/offset';
COMMENT ON COLUMN outcomes.commandsource IS 'ce_source of the command, empty if it had none';
COMMENT ON COLUMN outcomes.type IS 'The last event of the command';
COMMENT ON COLUMN outcomes.sku IS 'Stock-keeping unit that the command named';
COMMENT ON COLUMN outcomes.version IS 'The version of the sku after the command; 0: the sku is unknown';
COMMENT ON COLUMN outcomes.orderid IS 'Order of the line; empty if the command named none';
COMMENT ON COLUMN outcomes.batchref IS 'Batch; empty if there is none';
COMMENT ON COLUMN outcomes.reason IS 'Why it was ignored or rejected, or the line deallocated: a stable code';
COMMENT ON COLUMN outcomes.message IS 'The same as a sentence for people';
COMMENT ON COLUMN outcomes.event_time IS 'When the command was appended to the command log';
COMMENT ON COLUMN outcomes.kpartition IS 'Partition of the events topic that this row was read from';
COMMENT ON COLUMN outcomes.koffset IS 'Offset in that partition';
