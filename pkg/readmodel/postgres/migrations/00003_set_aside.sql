-- What the read model lacks, and why: events that Postgres refused, each with all that it said, and versions of a sku that the
-- topic does not have. The projector writes it and goes on; a rebuild takes it back.

-- +goose Up
CREATE TABLE set_aside (
    sku        text COLLATE "C" NOT NULL,
    what       text        NOT NULL CHECK (what IN ('refused', 'missing')),
    version    bigint      NOT NULL,
    event_id   text COLLATE "C" NOT NULL,
    reason     text        NOT NULL,
    event      text        NOT NULL,
    event_time timestamptz NOT NULL,
    kpartition integer     NOT NULL,
    koffset    bigint      NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sku, version, event_id, what)
);
COMMENT ON TABLE set_aside IS 'What the read model lacks, and why';
COMMENT ON COLUMN set_aside.sku IS 'Stock-keeping unit that lacks something';
COMMENT ON COLUMN set_aside.what IS 'refused: an event that was refused; missing: a version that was jumped over';
COMMENT ON COLUMN set_aside.version IS 'The version of the sku that is lacking; of an outcome that changed nothing, the sku''s';
COMMENT ON COLUMN set_aside.event_id IS 'ce_id of the event; empty if it is missing';
COMMENT ON COLUMN set_aside.reason IS 'Why, as a sentence for people';
COMMENT ON COLUMN set_aside.event IS 'The event as JSON; empty if it is missing';
COMMENT ON COLUMN set_aside.event_time IS 'When the command was appended to the command log; of the event that came after it, if it is missing';
COMMENT ON COLUMN set_aside.kpartition IS 'Partition of the events topic; likewise';
COMMENT ON COLUMN set_aside.koffset IS 'Offset in that partition';
COMMENT ON COLUMN set_aside.noted_at IS 'When this was noted';
