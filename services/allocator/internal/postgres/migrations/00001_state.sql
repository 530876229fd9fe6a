-- +goose Up

-- One row a partition of the commands topic. next_offset: every command below it is applied. It moves in the
-- same transaction as the state that those commands changed, by compare-and-set.
-- outbox_floor: every event of a command below it was published, so its outbox rows may be gone.
CREATE TABLE partitions (
    partition    integer NOT NULL PRIMARY KEY,
    topic_id     text    NOT NULL,
    next_offset  bigint  NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    outbox_floor bigint  NOT NULL DEFAULT 0 CHECK (outbox_floor BETWEEN 0 AND next_offset)
);

-- Text keys sort by bytes (COLLATE "C"): cheaper, and the order in which rows are locked is the same whatever
-- locale a database was made with.
CREATE TABLE products (
    sku       text COLLATE "C" NOT NULL PRIMARY KEY,
    version   bigint NOT NULL CHECK (version > 0),
    available bigint NOT NULL CHECK (available >= 0)
) WITH (fillfactor = 70);

-- The check on allocated is the last line of defence against overselling.
CREATE TABLE batches (
    sku             text COLLATE "C" NOT NULL,
    ref             text COLLATE "C" NOT NULL,
    eta             date,
    created_version bigint  NOT NULL CHECK (created_version > 0),
    created_qty     integer NOT NULL CHECK (created_qty > 0),
    qty             integer NOT NULL CHECK (qty >= 0),
    allocated       integer NOT NULL CHECK (allocated BETWEEN 0 AND qty),
    open            boolean NOT NULL GENERATED ALWAYS AS (allocated < qty) STORED,
    PRIMARY KEY (sku, ref)
) WITH (fillfactor = 70);

-- Loading a SKU reads its open batches only. The predicate names the generated column, so that an update which
-- leaves the batch open stays a HOT update.
CREATE INDEX batches_open ON batches (sku) WHERE open;

-- A line is in one batch at the most: the primary key is the last line of defence. The row stays after a
-- deallocation, with batchref null.
CREATE TABLE order_lines (
    orderid           text COLLATE "C" NOT NULL,
    sku               text COLLATE "C" NOT NULL,
    qty               integer     NOT NULL CHECK (qty > 0),
    batchref          text COLLATE "C",
    allocated_version bigint      NOT NULL CHECK (allocated_version > 0),
    command_source    text        NOT NULL,
    command_id        text        NOT NULL,
    command_partition integer     NOT NULL,
    command_offset    bigint      NOT NULL,
    command_time      timestamptz NOT NULL,
    PRIMARY KEY (orderid, sku)
);

-- The newest lines of a batch, for a cut of its quantity.
CREATE INDEX order_lines_newest ON order_lines (sku, batchref, allocated_version) WHERE batchref IS NOT NULL;

-- Ids of commands whose repeats no natural key would catch.
CREATE TABLE command_seen (
    sku               text COLLATE "C" NOT NULL,
    command_source    text COLLATE "C" NOT NULL,
    command_id        text COLLATE "C" NOT NULL,
    body              bytea       NOT NULL,
    command_partition integer     NOT NULL,
    command_offset    bigint      NOT NULL,
    command_time      timestamptz NOT NULL,
    PRIMARY KEY (sku, command_source, command_id)
);

CREATE INDEX command_seen_expiry ON command_seen (command_partition, command_time);

-- Events that were decided and not yet seen to be published: one segment a transaction, split at a size.
CREATE TABLE outbox (
    partition    integer NOT NULL,
    first_offset bigint  NOT NULL,
    next_offset  bigint  NOT NULL CHECK (next_offset > first_offset),
    segment      bytea   NOT NULL,
    PRIMARY KEY (partition, first_offset)
);

-- Segments are written once and read only in a recovery: compressing them would cost the hot path.
ALTER TABLE outbox ALTER COLUMN segment SET STORAGE EXTERNAL;

-- refuse_unless ends the transaction with SQLSTATE LL001 when a compare-and-set did not hold. It lets one
-- pipelined batch of statements be all or nothing without a round trip to look at the counts.
-- +goose StatementBegin
CREATE FUNCTION refuse_unless(held boolean, what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT held THEN
        RAISE EXCEPTION USING ERRCODE = 'LL001', MESSAGE = 'refused: ' || what;
    END IF;
END
$$;
-- +goose StatementEnd
