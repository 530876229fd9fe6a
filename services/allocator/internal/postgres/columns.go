package postgres

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// column is a parameter that is an array, of one value a row. It is encoded from the rows as they are: of a slice of the values,
// which would be made first, pgx would make an object each.
type column struct {
	rows   int
	size   func(row int) int // of its value, in bytes
	append func(to []byte, row int) []byte
	room   int // bytes that are made room for before it is encoded
}

func texts[R any, T string | []byte](rows []R, of func(*R) T) column {
	return column{
		rows:   len(rows),
		size:   func(row int) int { return len(of(&rows[row])) },
		append: func(to []byte, row int) []byte { return append(to, of(&rows[row])...) },
	}
}

func skuNames(skus []string) column { return texts(skus, func(sku *string) string { return *sku }) }

func integers[R any](rows []R, of func(*R) int32) column {
	return column{
		rows:   len(rows),
		size:   func(int) int { return 4 },
		append: func(to []byte, row int) []byte { return binary.BigEndian.AppendUint32(to, uint32(of(&rows[row]))) },
	}
}

func bigints[R any](rows []R, of func(*R) int64) column {
	return column{
		rows:   len(rows),
		size:   func(int) int { return 8 },
		append: func(to []byte, row int) []byte { return binary.BigEndian.AppendUint64(to, uint64(of(&rows[row]))) },
	}
}

// epoch is where Postgres counts microseconds from.
var epoch = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func timestamps[R any](rows []R, of func(*R) time.Time) column {
	return bigints(rows, func(r *R) int64 { return of(r).UnixMicro() - epoch })
}

// arguments are the parameters of a statement that are columns. There is room for all of them once the first is encoded: memory that
// grows while it is written to is copied again and again, and what it was before is left to the collector.
func arguments(columns ...column) []any {
	all := make([]any, len(columns))
	for _, c := range columns {
		columns[0].room += c.bytes()
	}
	for i, c := range columns {
		all[i] = c
	}
	return all
}

// An array is sent as a header of five numbers (how many dimensions, whether there are nulls, the values' type, how many, from
// which index on), and then each value after its length.
const (
	headerBytes = 5 * 4
	lengthBytes = 4
)

func (c column) bytes() int {
	n := headerBytes
	for row := range c.rows {
		n += lengthBytes + c.size(row)
	}
	return n
}

// columnCodec encodes columns, and leaves all else to the codec of pgx.
type columnCodec struct{ *pgtype.ArrayCodec }

// takeColumns has a connection take columns as parameters.
func takeColumns(types *pgtype.Map) {
	for _, oid := range [...]uint32{pgtype.TextArrayOID, pgtype.ByteaArrayOID, pgtype.Int4ArrayOID, pgtype.Int8ArrayOID, pgtype.TimestamptzArrayOID} {
		if t, ok := types.TypeForOID(oid); ok {
			if array, ok := t.Codec.(*pgtype.ArrayCodec); ok {
				types.RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: columnCodec{array}})
			}
		}
	}
}

// PlanEncode implements pgtype.Codec.
func (c columnCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(column); ok && format == pgtype.BinaryFormatCode {
		return c
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

// Encode implements pgtype.EncodePlan.
func (c columnCodec) Encode(value any, to []byte) ([]byte, error) {
	values := value.(column)
	to = slices.Grow(to, values.room)
	const dimensions, nulls, firstIndex = 1, 0, 1
	for _, n := range [...]uint32{dimensions, nulls, c.ElementType.OID, uint32(values.rows), firstIndex} {
		to = binary.BigEndian.AppendUint32(to, n)
	}
	for row := range values.rows {
		to = binary.BigEndian.AppendUint32(to, uint32(values.size(row)))
		to = values.append(to, row)
	}
	return to, nil
}
