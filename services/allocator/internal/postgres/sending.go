package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// send sends a batch and reads all answers.
func send(ctx context.Context, db batcher, b *pgx.Batch) error {
	makeRoom(db, b)
	return db.SendBatch(ctx, b).Close()
}

// makeRoom has the client make at once the memory that a batch takes as it is sent. It would grow by a quarter at a time, and each
// time be copied: what it was before was a fifth of all that an allocator leaves to the collector.
func makeRoom(db batcher, b *pgx.Batch) {
	bytes := 0
	for _, q := range b.QueuedQueries {
		for _, argument := range q.Arguments {
			switch a := argument.(type) {
			case column:
				bytes += a.bytes()
			case []byte:
				bytes += len(a)
			}
		}
	}
	conn, ok := db.(*pgx.Conn)
	if tx, is := db.(pgx.Tx); is {
		conn, ok = tx.Conn(), true
	}
	if ok {
		conn.PgConn().Frontend().Send(room(bytes + statementBytes*len(b.QueuedQueries)))
	}
}

// statementBytes are of a statement what is not in its large parameters.
const statementBytes = 256

// room is a message of no bytes that there is room for so many behind it.
type room int

// Frontend, Decode and Encode implement pgproto3.FrontendMessage.
func (room) Frontend() {}

func (room) Decode([]byte) error { return nil }

func (r room) Encode(to []byte) ([]byte, error) { return slices.Grow(to, int(r)), nil }
