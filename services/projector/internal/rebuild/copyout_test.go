package rebuild

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// copied is a copy in Postgres' binary form, in the pieces that Postgres would send.
func copied(rows ...[]string) (pieces [][]byte) {
	head := append([]byte(copySignature), make([]byte, 8)...)
	for _, row := range rows {
		piece := binary.BigEndian.AppendUint16(head, uint16(len(row)))
		head = nil
		for _, field := range row {
			if field == "NULL" {
				piece = binary.BigEndian.AppendUint32(piece, 0xffffffff)
				continue
			}
			piece = append(binary.BigEndian.AppendUint32(piece, uint32(len(field))), field...)
		}
		pieces = append(pieces, piece)
	}
	return append(pieces, append(head, 0xff, 0xff))
}

func TestACopyIsTakenApart(t *testing.T) {
	for name, want := range map[string][][]string{
		"no rows": nil, "rows": {{"a", "", "NULL"}, {"b", "NULL", "long enough to be another size"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, together := range []bool{false, true} {
				pieces := copied(want...)
				if together {
					var all []byte
					for _, piece := range pieces {
						all = append(all, piece...)
					}
					pieces = [][]byte{all}
				}
				var got [][]string
				r := copyReader{keep: func(row [][]byte) error {
					var texts []string
					for _, field := range row {
						text := string(field)
						if field == nil {
							text = "NULL"
						}
						texts = append(texts, text)
					}
					got = append(got, texts)
					return nil
				}}
				for _, piece := range pieces {
					n, err := r.Write(piece)
					require.NoError(t, err)
					require.Equal(t, len(piece), n)
				}
				require.Equal(t, want, got)
				require.True(t, r.ended)
			}
		})
	}
}

// Whatever is cut off, wherever, is an error, or an end that never came: no row is made of a part of one.
func TestACopyThatIsCutOffIsNoWholeOne(t *testing.T) {
	var all []byte
	for _, piece := range copied([]string{"one", "two"}, []string{"three", "NULL"}) {
		all = append(all, piece...)
	}
	for n := range all {
		r := copyReader{keep: func(row [][]byte) error {
			require.Contains(t, []string{"one", "three"}, string(row[0]))
			return nil
		}}
		if _, err := r.Write(all[:n]); err == nil {
			require.False(t, r.ended, "%d bytes", n)
		}
	}
	for name, bad := range map[string][]byte{
		"something else":  append([]byte("PGCOPY TEXT"), make([]byte, 8)...),
		"flags":           append(append([]byte(copySignature), 0, 1, 0, 0), 0, 0, 0, 0),
		"a size below 0":  append(copied()[0][:19], 0, 1, 0xff, 0xff, 0xff, 0xfe),
		"too many fields": append(copied()[0][:19], 0, copyFieldsMax+1),
		"after the end":   append(copied()[0], 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := (&copyReader{keep: func([][]byte) error { return nil }}).Write(bad)
			require.Error(t, err)
		})
	}
	t.Run("who does not want it", func(t *testing.T) {
		enough := errors.New("enough")
		_, err := (&copyReader{keep: func([][]byte) error { return enough }}).Write(all)
		require.ErrorIs(t, err, enough)
	})
}
