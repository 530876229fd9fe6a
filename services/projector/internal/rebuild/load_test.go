package rebuild

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// shaky is a store that takes the rows of its second load and then fails.
type shaky struct {
	readmodel.Generations
	loads [][]string // their orders
}

func (*shaky) Name() string { return "store" }
func (s *shaky) Load(_ context.Context, _ int, rows readmodel.Parts) error {
	var orders []string
	err := rows(func(part *readmodel.State) error {
		for _, l := range part.Lines {
			orders = append(orders, l.OrderID)
		}
		return nil
	})
	if s.loads = append(s.loads, orders); len(s.loads) == 2 {
		return errors.Join(err, errors.New("the store is away"))
	}
	return err
}

// A rebuild that is slowed may take the best part of an hour for what it read at once. What fails of it is loaded again, not all
// that was loaded before.
func TestOnlyWhatFailedIsLoadedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(shaky)
		r := &rebuild{Options: Options{Store: store}, log: slog.New(slog.DiscardHandler), pace: &pace{perSecond: 8}}
		var rows readmodel.State
		for _, order := range []string{"a", "b", "c", "d", "e"} {
			rows.Lines = append(rows.Lines, readmodel.LineRow{Line: readmodel.Line{OrderID: order}})
		}
		require.NoError(t, r.loadSlowly(t.Context(), rows))
		require.Equal(t, [][]string{{"a", "b"}, {"c", "d"}, {"c", "d"}, {"e"}}, store.loads)
	})
}

// Lines come in parts whose memory is that of the part before. Each line is in one part, and has nothing of another line.
func TestThePartsOfLinesShareNothingButMemory(t *testing.T) {
	var all readmodel.State
	keep, buf := gather(&all), new(lineBuffer)
	var want []readmodel.LineRow
	for part, size := range []int{3, 5, 2} {
		for i := range size {
			line := readmodel.LineRow{
				Line:      readmodel.Line{OrderID: fmt.Sprintf("o-%d-%d", part, i), SKU: fmt.Sprint("LAMP-", i), BatchRef: "b", Qty: int32(i), Version: uint64(10*part + i)},
				CommandID: fmt.Sprint("c-", part), EventTime: postgresEpoch.Add(time.Duration(i) * time.Hour),
			}
			if i == 1 {
				line.BatchRef = "" // given back since
			}
			buf.take([][]byte{
				[]byte(line.OrderID), []byte(line.SKU), []byte(line.BatchRef), []byte(line.CommandID), binary.BigEndian.AppendUint64(nil, line.Version),
				binary.BigEndian.AppendUint32(nil, uint32(line.Qty)), binary.BigEndian.AppendUint64(nil, uint64(line.EventTime.Sub(postgresEpoch).Microseconds())),
			})
			if line.BatchRef == "" {
				line.Version++
			}
			if part == 0 {
				line.ETA = "2031-01-02"
			}
			want = append(want, line)
		}
		rows := buf.rows()
		for i := range rows.Lines {
			require.Empty(t, rows.Lines[i].ETA, "it is another line's")
			if part == 0 {
				rows.Lines[i].ETA = "2031-01-02"
			}
		}
		require.NoError(t, keep(rows))
	}
	require.Equal(t, want, all.Lines)
}
