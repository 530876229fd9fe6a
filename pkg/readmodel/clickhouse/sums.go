package clickhouse

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/rowsum"
)

// sumsSQL has %[1]d for the generation.
var sumsSQL = `SELECT sku, max(v), toInt64(count()), groupBitXor(checksum) FROM (
	SELECT sku, version AS v, ` + rowsum.ClickHouse(rowsum.SKU, "sku", "toString(version)", "toString(available)") + ` AS checksum FROM skus_g%[1]d FINAL
	UNION ALL SELECT sku, 0 AS v, ` + rowsum.ClickHouse(rowsum.Batch, "sku", "ref", "toString(qty)", "toString(available)", "ifNull(toString(eta), '')") + ` AS checksum FROM stock_g%[1]d FINAL
	UNION ALL SELECT sku, 0 AS v, ` + rowsum.ClickHouse(rowsum.Ref, "sku", "ref") + ` AS checksum FROM batches_by_ref_g%[1]d FINAL
	UNION ALL SELECT sku, 0 AS v, ` + rowsum.ClickHouse(rowsum.Allocation, "orderid", "sku", "batchref", "toString(qty)", "ifNull(toString(eta), '')", "toString(version)") + ` AS checksum FROM order_lines_g%[1]d FINAL
) GROUP BY sku`

// Sums has ClickHouse add the rows up.
func (g *Generations) Sums(ctx context.Context, generation int) (map[string]readmodel.Sum, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(compareSettings))
	sums := make(map[string]readmodel.Sum)
	var sku string
	var s readmodel.Sum
	if err := each(ctx, g.writer.conn, fmt.Sprintf(sumsSQL, generation), nil, []any{&sku, &s.Version, &s.Rows, &s.Checksum}, func() error {
		sums[sku] = s
		return nil
	}); err != nil {
		return nil, fmt.Errorf("add up the rows of generation %d: %w", generation, err)
	}
	return sums, nil
}
