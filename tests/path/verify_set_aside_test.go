//go:build integration

package path

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
)

// An event was refused, its cause was mended, and a rebuild from events brought it back before a repair did. Whoever then does what
// readiness says, or looks at the stores, finds nothing lacking, and readiness has to agree.
func TestARepairTakesBackNotesOfWhatIsThere(t *testing.T) {
	t.Parallel()
	onKfake(t, func(p *pipeline) {
		conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{p.on.ClickHouse}, Auth: clickhouse.Auth{Database: p.on.Database}})
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE events ADD CONSTRAINT c CHECK NOT (sku = 'CHAIR' AND version = 7)"))
		p.history("CHAIR")
		p.selects("SELECT version, what FROM set_aside FINAL", "7\trefused")
		require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE events DROP CONSTRAINT c"))
		code, printed := p.rebuild("--from=events")
		require.Zero(t, code, printed)
		p.agrees()
		code, printed = p.verify("--repair")
		require.Zero(t, code, printed)
		p.selects("SELECT count() FROM set_aside FINAL", "0")
	})
}
