package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// openDirect returns a client of ClickHouse with as many connections as the gateway has clients.
func (s *site) openDirect() (driver.Conn, error) {
	return clickhouse.Open(&clickhouse.Options{
		Addr: []string{s.ClickHouse}, Auth: clickhouse.Auth{Database: s.name, Username: "default"},
		MaxOpenConns: s.Connections, MaxIdleConns: s.Connections, DialTimeout: time.Minute, ReadTimeout: 5 * time.Minute,
		Settings: clickhouse.Settings{"max_threads": 1, "send_profile_events": 0}, // as the gateway has it
	})
}

// queryOrder asks ClickHouse what the gateway answers about an order, and checks it.
func (s *site) queryOrder(ctx context.Context, order int) error {
	rows, err := s.conn.Query(ctx, "SELECT sku, batchref FROM order_lines FINAL WHERE orderid = {id:String} ORDER BY sku", clickhouse.Named("id", fmt.Sprint("order-", order)))
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var sku, ref string
		if err := rows.Scan(&sku, &ref); err != nil {
			return err
		}
		if ref != fmt.Sprint("batch-", 2*order+n) {
			return fmt.Errorf("line %d of order-%d is in %s", n, order, ref)
		}
	}
	if n != 2 {
		return fmt.Errorf("order-%d has %d lines", order, n)
	}
	return rows.Err()
}

// querySKU asks ClickHouse what is left of a SKU, and of its batches, which are two tables.
func (s *site) querySKU(ctx context.Context, sku uint64) error {
	name := clickhouse.Named("sku", fmt.Sprint("SKU-", sku))
	var version uint64
	var available int64
	if err := s.conn.QueryRow(ctx, "SELECT version, available FROM skus FINAL WHERE sku = {sku:String}", name).Scan(&version, &available); err != nil {
		return err
	}
	if available != stockOf-int64(version)+1 {
		return fmt.Errorf("SKU-%d has %d at version %d", sku, available, version)
	}
	rows, err := s.conn.Query(ctx, "SELECT ref, qty, available, eta, version FROM stock FINAL WHERE sku = {sku:String} ORDER BY eta NULLS FIRST, ref", name)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var ref string
		var qty, left int32
		var eta *time.Time
		if err := rows.Scan(&ref, &qty, &left, &eta, &version); err != nil {
			return err
		}
		if ref != "batch" || qty != stockOf || int64(left) != stockOf-int64(version)+1 || eta != nil {
			return fmt.Errorf("SKU-%d has %d of %d in %s, eta %v, at version %d", sku, left, qty, ref, eta, version)
		}
	}
	if n != 1 {
		return fmt.Errorf("SKU-%d has %d batches", sku, n)
	}
	return rows.Err()
}
