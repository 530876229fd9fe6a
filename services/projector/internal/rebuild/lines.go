package rebuild

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/pkg/readmodel"
)

// lineTexts is how many of a line's fields are texts, which come first.
const lineTexts = 4

// rawLine is a line as it is read, less its texts. It has no pointers: that, and one string for the texts of a part's lines,
// makes reading many of them three times as cheap.
type rawLine struct {
	ends    [lineTexts]int // of its texts among those of all lines
	version uint64
	at      int64 // microseconds since postgresEpoch
	qty     int32
}

// lineBuffer is lines on their way from Postgres' form to a part's.
type lineBuffer struct {
	texts []byte
	lines []rawLine
	part  readmodel.State
}

func (b *lineBuffer) take(v [][]byte) {
	l := rawLine{version: uint64(int64Of(v[4])), qty: int32Of(v[5]), at: int64Of(v[6])}
	for i, text := range v[:lineTexts] {
		b.texts = append(b.texts, text...)
		l.ends[i] = len(b.texts)
	}
	b.lines = append(b.lines, l)
}

// rows returns what was taken as rows, less their etas, and forgets it. They are good until the next call. A line that was
// deallocated is one version newer than its last allocation: older than all that followed, and newer than each event that
// allocated it.
func (b *lineBuffer) rows() *readmodel.State {
	text, from := string(b.texts), 0
	b.part.Lines = slices.Grow(b.part.Lines[:0], len(b.lines))[:len(b.lines)]
	for i := range b.lines {
		r, l := &b.lines[i], &b.part.Lines[i]
		*l = readmodel.LineRow{EventTime: postgresEpoch.Add(time.Duration(r.at) * time.Microsecond)}
		l.Version, l.Qty = r.version, r.qty
		for j, field := range [lineTexts]*string{&l.OrderID, &l.SKU, &l.BatchRef, &l.CommandID} {
			*field, from = text[from:r.ends[j]], r.ends[j]
		}
		if l.BatchRef == "" {
			l.Version++
		}
	}
	b.texts, b.lines = b.texts[:0], b.lines[:0]
	return &b.part
}

func (w *writeSide) lines(ctx context.Context, tx pgx.Tx, commands bool, add func(*readmodel.State) error, where string, args ...any) error {
	buf := w.buffers.Get().(*lineBuffer)
	defer w.buffers.Put(buf)
	buf.texts, buf.lines = buf.texts[:0], buf.lines[:0]
	handOver := func() error {
		part := buf.rows()
		if err := w.etas.fill(ctx, w.pool, part.Lines); err != nil {
			return err
		}
		return add(part)
	}
	command := "''"
	if commands {
		command = strings.ReplaceAll(commandSQL, "TOPIC", strings.ReplaceAll(w.topic, "'", "''"))
	}
	sql := strings.ReplaceAll(linesSQL, "COMMAND", command)
	if err := query(ctx, tx, sql+" WHERE "+where, args, func(v [][]byte) error {
		buf.take(v)
		if len(buf.lines) < partRows {
			return nil
		}
		return handOver()
	}); err != nil || len(buf.lines) == 0 {
		return err
	}
	return handOver()
}
