-- The comment of changed_at said only half of it: Postgres has no time of a batch's last change, so a rebuild from state
-- takes the time at which it read the row.

-- +goose Up
CREATE OR REPLACE VIEW bi_batches
(
    sku             String COMMENT 'Stock-keeping unit',
    batchref        String COMMENT 'Reference of the batch, unique within its sku',
    eta             Nullable(Date32) COMMENT 'Day the batch arrives; NULL: it was in stock from the start',
    units_purchased Int32 COMMENT 'Units purchased',
    units_left      Int32 COMMENT 'Units left',
    units_allocated Int32 COMMENT 'Units that order lines hold: units_purchased - units_left',
    changed_at      DateTime64(3, 'UTC') COMMENT 'When the command was given that changed it last; if it has not changed since a rebuild from state, when that read it'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT sku, ref AS batchref, eta, qty AS units_purchased, available AS units_left, toInt32(qty - available) AS units_allocated, event_time AS changed_at
FROM stock FINAL
COMMENT 'Every batch of stock as it is now. One row a sku and batchref';
