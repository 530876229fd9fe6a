-- The tables of generation {{.}}, as migration 1 made those of the first: a test holds the two against each other. What
-- changes here is in the next generation.

CREATE TABLE IF NOT EXISTS order_lines_g{{.}} (
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
COMMENT ON TABLE order_lines_g{{.}} IS 'Order lines, generation {{.}}. Read order_lines';
COMMENT ON COLUMN order_lines_g{{.}}.orderid IS 'Order';
COMMENT ON COLUMN order_lines_g{{.}}.sku IS 'Stock-keeping unit';
COMMENT ON COLUMN order_lines_g{{.}}.version IS 'The version of the sku at the line''s latest change';
COMMENT ON COLUMN order_lines_g{{.}}.batchref IS 'Batch that the line is allocated to; null: it was deallocated, and the row stays to refuse older ones';
COMMENT ON COLUMN order_lines_g{{.}}.qty IS 'Quantity of the line, in units';
COMMENT ON COLUMN order_lines_g{{.}}.eta IS 'Day the batch arrives; null: in stock';
COMMENT ON COLUMN order_lines_g{{.}}.commandid IS 'Command that made the change';
COMMENT ON COLUMN order_lines_g{{.}}.event_time IS 'When that command was appended to the command log';

CREATE TABLE IF NOT EXISTS stock_g{{.}} (
    sku        text COLLATE "C" NOT NULL,
    ref        text COLLATE "C" NOT NULL,
    version    bigint      NOT NULL,
    qty        integer     NOT NULL,
    available  integer     NOT NULL,
    eta        date,
    event_time timestamptz NOT NULL,
    PRIMARY KEY (sku, ref)
) WITH (fillfactor = 70);
COMMENT ON TABLE stock_g{{.}} IS 'Batches and what they have left, generation {{.}}. Read stock';
COMMENT ON COLUMN stock_g{{.}}.sku IS 'Stock-keeping unit';
COMMENT ON COLUMN stock_g{{.}}.ref IS 'Reference of the batch, unique within its sku';
COMMENT ON COLUMN stock_g{{.}}.version IS 'The version of the sku at the batch''s latest change';
COMMENT ON COLUMN stock_g{{.}}.qty IS 'Units purchased';
COMMENT ON COLUMN stock_g{{.}}.available IS 'Units left: purchased less allocated';
COMMENT ON COLUMN stock_g{{.}}.eta IS 'Day the batch arrives; null: in stock';
COMMENT ON COLUMN stock_g{{.}}.event_time IS 'When the command that changed it was appended to the command log';
CREATE INDEX IF NOT EXISTS stock_g{{.}}_by_ref ON stock_g{{.}} (ref, sku);

CREATE TABLE IF NOT EXISTS skus_g{{.}} (
    sku        text COLLATE "C" NOT NULL PRIMARY KEY,
    version    bigint      NOT NULL,
    available  bigint      NOT NULL,
    event_time timestamptz NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE skus_g{{.}} IS 'Skus and what they have left, generation {{.}}. Read skus';
COMMENT ON COLUMN skus_g{{.}}.sku IS 'Stock-keeping unit';
COMMENT ON COLUMN skus_g{{.}}.version IS 'Its newest version';
COMMENT ON COLUMN skus_g{{.}}.available IS 'Units left over all its batches';
COMMENT ON COLUMN skus_g{{.}}.event_time IS 'When the command that changed it was appended to the command log';
