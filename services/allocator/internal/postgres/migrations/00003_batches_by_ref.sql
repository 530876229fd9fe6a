-- From a reference alone, as people write it, to the SKUs that have a batch of it: a question of those who read the write
-- side itself. Neither column ever changes, so updates of a batch stay HOT.

-- +goose Up
CREATE INDEX batches_by_ref ON batches (ref, sku);
