package postgres

import (
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// What there is room for is sent from there: the client's memory does not grow under it.
func TestRoomIsMadeOnce(t *testing.T) {
	const statements, size = 20, 100_000
	bind := &pgproto3.Bind{Parameters: [][]byte{make([]byte, size)}}
	sending := func(ahead int) float64 {
		f := pgproto3.NewFrontend(nil, io.Discard)
		return testing.AllocsPerRun(10, func() {
			f.Send(room(ahead))
			for range statements {
				f.SendBind(bind)
			}
			if f.Flush() != nil {
				t.Error("not sent")
			}
		})
	}
	require.Less(t, sending(statements*(size+statementBytes)), sending(0)/2)
}
