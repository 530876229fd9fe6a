package rebuild

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// copySignature is what a copy in Postgres' binary form begins with, before the flags and the length of what may follow them.
const copySignature = "PGCOPY\n\xff\r\n\x00"

// copyFieldsMax bounds the fields of a row that are read.
const copyFieldsMax = 16

// copyOut hands over each row of a query in Postgres' binary form, only until keep returns. A row costs less of both sides'
// CPU than one that is asked for as such, but a condition cannot have arguments. If keep fails the connection is closed:
// nothing else ends a copy before its time.
func copyOut(ctx context.Context, tx pgx.Tx, sql string, keep func(row [][]byte) error) error {
	rows := copyReader{keep: keep}
	if _, err := tx.Conn().PgConn().CopyTo(ctx, &rows, "COPY ("+sql+") TO STDOUT (FORMAT binary)"); err != nil {
		return err
	}
	if !rows.ended {
		return errors.New("the copy has no end")
	}
	return nil
}

// copyReader takes a copy apart. Postgres sends whole rows, so each Write has some.
type copyReader struct {
	keep         func(row [][]byte) error
	begun, ended bool
	row          [copyFieldsMax][]byte
}

// Write takes some rows.
func (r *copyReader) Write(rows []byte) (int, error) {
	left := rows
	if !r.begun {
		const flags, following = len(copySignature), len(copySignature) + 4
		if len(left) < following+4 || !bytes.HasPrefix(left, []byte(copySignature)) ||
			binary.BigEndian.Uint32(left[flags:]) != 0 || binary.BigEndian.Uint32(left[following:]) != 0 {
			return 0, errors.New("the copy does not begin as Postgres' binary form does")
		}
		r.begun, left = true, left[following+4:]
	}
	for len(left) > 0 {
		var err error
		if left, err = r.next(left); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}

var errCopyCut = errors.New("a row of the copy is cut off")

// next hands over the first row, and returns what follows it.
func (r *copyReader) next(from []byte) (rest []byte, err error) {
	if len(from) < 2 || r.ended {
		return nil, errCopyCut
	}
	count := int(int16(binary.BigEndian.Uint16(from)))
	from = from[2:]
	if count == -1 {
		r.ended = true
		return from, nil
	}
	if count < 0 || count > copyFieldsMax {
		return nil, fmt.Errorf("a row of the copy has %d fields", count)
	}
	row := r.row[:count]
	for i := range row {
		if len(from) < 4 {
			return nil, errCopyCut
		}
		size := int(int32(binary.BigEndian.Uint32(from)))
		from = from[4:]
		if size == -1 {
			row[i] = nil
			continue
		}
		if size < 0 || size > len(from) {
			return nil, errCopyCut
		}
		row[i], from = from[:size:size], from[size:]
	}
	return from, r.keep(row)
}
