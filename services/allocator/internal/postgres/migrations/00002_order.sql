-- +goose Up

-- The command that made a SKU's version. If it came over another partition than the one that changes the SKU next, its
-- events have to be published first. Null: the version was made before this was kept.
ALTER TABLE products ADD COLUMN command_partition integer, ADD COLUMN command_offset bigint;

-- What must be published before a segment: by partition, every event of a command below an offset. Null: nothing.
ALTER TABLE outbox ADD COLUMN depends_on jsonb;
