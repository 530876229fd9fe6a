// Package writeside is the read model without a projection: questions are SQL over the tables that the allocator writes.
// Nothing lags, nothing has to be kept in step, and every question is work for the database that decides.
//
// It is a store of readmodel that has a Reader only, and may import readmodel, pkg and the Postgres client. The gateway
// asks by it, as the Postgres role lotline_gateway. The tables are the allocator's: its migrations say what they hold.
package writeside

import (
	"context"
	"fmt"
	"time"

	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/internal/pgreader"
)

const name = "write-side"

const stockColumns = `p.sku, p.version, p.available, b.ref, b.qty, b.qty - b.allocated, coalesce(to_char(b.eta, 'YYYY-MM-DD'), ''), 0::bigint`

// A batch has no version of its own on the write side: 0. What became of a command is nowhere: the allocator keeps ids
// only where it needs them to recognise a repeat, and no outcomes.
var queries = pgreader.Queries{
	Orders: fmt.Sprintf(`SELECT l.orderid, l.sku, l.batchref, l.allocated_version FROM unnest($1::text[]) AS k (orderid)
		CROSS JOIN LATERAL (SELECT orderid, sku, batchref, allocated_version FROM order_lines o WHERE o.orderid = k.orderid AND o.batchref IS NOT NULL ORDER BY o.sku LIMIT %d) AS l
		ORDER BY l.orderid, l.sku`, readmodel.OrderLinesMax+1),
	Lines: `SELECT l.orderid, l.sku, l.batchref, l.qty, coalesce(to_char(b.eta, 'YYYY-MM-DD'), ''), l.allocated_version FROM unnest($1::text[], $2::text[]) AS k (orderid, sku)
		JOIN order_lines l ON l.orderid = k.orderid AND l.sku = k.sku
		JOIN batches b ON b.sku = l.sku AND b.ref = l.batchref`,
	Availability: `SELECT ` + stockColumns + ` FROM products p LEFT JOIN batches b ON b.sku = p.sku WHERE p.sku = ANY ($1::text[]) ORDER BY p.sku, b.eta NULLS FIRST, b.ref`,
	List: `SELECT * FROM (SELECT ` + stockColumns + ` FROM (SELECT * FROM products WHERE sku > $1 ORDER BY sku LIMIT $2) p
		LEFT JOIN batches b ON b.sku = p.sku ORDER BY p.sku FETCH FIRST $3 ROWS WITH TIES) l (sku, v, a, ref, q, n, eta, w) ORDER BY sku, eta, ref`,
	SKUs: fmt.Sprintf(`SELECT k.ref, b.sku FROM unnest($1::text[]) AS k (ref)
		CROSS JOIN LATERAL (SELECT sku FROM batches WHERE ref = k.ref ORDER BY sku LIMIT %d) AS b ORDER BY k.ref, b.sku`, readmodel.RefSKUsMax),
}

// Reader asks the allocator's tables. It is a readmodel.Reader whose Outcomes is readmodel.ErrNotKept, and whose batches
// have no Version.
type Reader struct{ *pgreader.Reader }

var _ readmodel.Reader = Reader{}

// NewReader returns a reader whose questions may each take as long as timeout. It connects when it is first asked.
func NewReader(cfg postgresclient.Settings, timeout time.Duration) (Reader, error) {
	r, err := pgreader.New(pgreader.Config{ConnURL: cfg.ConnURL, Timeout: timeout, Queries: queries})
	return Reader{r}, err
}

// Name is write-side.
func (Reader) Name() string { return name }

// Check fails where the questions would.
func (r Reader) Check(ctx context.Context) error {
	if err := r.Reader.Check(ctx); err != nil {
		return fmt.Errorf("%w (the user needs the role lotline_gateway, and the newest lotline migrate)", err)
	}
	return nil
}
