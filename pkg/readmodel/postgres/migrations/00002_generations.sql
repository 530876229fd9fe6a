-- Generations of the read model: each has tables of its own (order_lines_g1, order_lines_g2), and the views stand for those
-- of the live one. generation.sql makes the tables of those after the first.

-- +goose Up
CREATE TABLE generations (
    generation integer PRIMARY KEY CHECK (generation > 0),
    live       boolean NOT NULL
);
COMMENT ON TABLE generations IS 'Generations of the read model: a block of events is written to each of them, in one transaction';
COMMENT ON COLUMN generations.generation IS 'Number in the names of its tables';
COMMENT ON COLUMN generations.live IS 'Whether the views stand for it: of one';
CREATE UNIQUE INDEX generations_one_is_live ON generations (live) WHERE live;
INSERT INTO generations VALUES (1, true);

CREATE TABLE rebuild (
    generation integer NOT NULL REFERENCES generations ON DELETE CASCADE,
    name       text    NOT NULL,
    value      text    NOT NULL,
    PRIMARY KEY (generation, name)
);
COMMENT ON TABLE rebuild IS 'How far the making of a generation has come';
COMMENT ON COLUMN rebuild.generation IS 'The generation';
COMMENT ON COLUMN rebuild.name IS 'What is said of it: a part that is loaded, for one';
COMMENT ON COLUMN rebuild.value IS 'What is said';
