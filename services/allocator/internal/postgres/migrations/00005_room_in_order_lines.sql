-- Where orders' ids come in no order, inserts leave this index 70 % full. One that is built anew (REINDEX, a restored dump) would
-- be 90 % full: the image of a page, which the first insert after a checkpoint writes to the log, is larger by as much, and soon
-- most pages have to be split. Nothing is rebuilt here.

-- +goose Up
ALTER INDEX order_lines_pkey SET (fillfactor = 70);
