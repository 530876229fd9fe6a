package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

type wide struct {
	text string
	blob []byte
	n    int32
	big  int64
	at   time.Time
}

// A column is the bytes that pgx makes of a slice, and what pgx made of slices it still does.
func TestColumnsAreEncodedAsSlicesAre(t *testing.T) {
	at := time.Date(2031, time.January, 2, 3, 4, 5, 678_000_000, time.UTC)
	rows := []wide{{"", nil, 0, 0, time.UnixMilli(0)}, {"Stück\t☃", []byte{0, 255}, -1, -1, at}, {"x", []byte("y"), 1 << 30, 1 << 62, at.Add(time.Microsecond)}}
	texts, blobs, ints, bigs, times := []string{}, [][]byte{}, []int32{}, []int64{}, []time.Time{}
	for _, r := range rows {
		texts, blobs, ints, bigs, times = append(texts, r.text), append(blobs, append([]byte{}, r.blob...)), append(ints, r.n), append(bigs, r.big), append(times, r.at)
	}
	slices := []any{texts, blobs, ints, bigs, times}
	columns := arguments(wideColumns(rows)...)
	oids := []uint32{pgtype.TextArrayOID, pgtype.ByteaArrayOID, pgtype.Int4ArrayOID, pgtype.Int8ArrayOID, pgtype.TimestamptzArrayOID}
	types := pgtype.NewMap()
	takeColumns(types)
	for i, oid := range oids {
		want, err := pgtype.NewMap().Encode(oid, pgtype.BinaryFormatCode, slices[i], nil)
		require.NoError(t, err)
		for _, value := range []any{columns[i], slices[i]} {
			got, err := types.Encode(oid, types.FormatCodeForOID(oid), value, nil)
			require.NoError(t, err)
			require.Equal(t, want, got, "type %d from %T", oid, value)
		}
	}
}

func wideColumns(rows []wide) []column {
	return []column{
		texts(rows, func(r *wide) string { return r.text }),
		texts(rows, func(r *wide) []byte { return r.blob }),
		integers(rows, func(r *wide) int32 { return r.n }),
		bigints(rows, func(r *wide) int64 { return r.big }),
		timestamps(rows, func(r *wide) time.Time { return r.at }),
	}
}

// A statement's parameters are encoded in the memory that the first of them makes.
func TestColumnsMakeRoomOnce(t *testing.T) {
	types := pgtype.NewMap()
	takeColumns(types)
	rows := make([]wide, 10_000)
	columns := arguments(texts(rows, func(*wide) string { return "order-0123456789" }), bigints(rows, func(r *wide) int64 { return r.big }))
	oids := []uint32{pgtype.TextArrayOID, pgtype.Int8ArrayOID}
	require.LessOrEqual(t, testing.AllocsPerRun(10, func() {
		var to []byte
		for i, c := range columns {
			var err error
			to, err = types.Encode(oids[i], pgtype.BinaryFormatCode, c, to)
			require.NoError(t, err)
		}
	}), 3.0)
}

// Columns are for parameters whose types the server has said. Where it is not asked, each load would fail, and look like an outage.
func TestAnExecModeWithoutTypesIsRefusedAtStart(t *testing.T) {
	for mode, taken := range map[string]bool{
		"cache_statement": true, "cache_describe": true, "describe_exec": true, "exec": false, "simple_protocol": false,
	} {
		_, err := New(func() (string, error) { return "postgres://127.0.0.1/lotline?default_query_exec_mode=" + mode, nil }, time.Second)
		if taken {
			require.NoError(t, err, mode)
		} else {
			require.ErrorContains(t, err, "default_query_exec_mode", mode)
		}
	}
}
