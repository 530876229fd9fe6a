-- The names that readers use, for generation {{.}}. In the order in which the readers' questions have them, so that a switch
-- and a question wait for each other and never in a circle.

CREATE OR REPLACE VIEW skus AS SELECT sku, version, available, event_time FROM skus_g{{.}};
CREATE OR REPLACE VIEW stock AS SELECT sku, ref, version, qty, available, eta, event_time FROM stock_g{{.}};
CREATE OR REPLACE VIEW order_lines AS SELECT orderid, sku, version, batchref, qty, eta, commandid, event_time FROM order_lines_g{{.}} WHERE batchref IS NOT NULL;
