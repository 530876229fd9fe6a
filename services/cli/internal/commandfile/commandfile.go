// Package commandfile reads commands that people wrote down: NDJSON, one object
// a line, or CSV with a header row.
//
// It is pure: bytes in, commands or sentences about what is wrong out. The
// operator's `lotline send` calls it; it imports schemas, which decides what a
// command is.
package commandfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/lotline/lotline/schemas"
)

// MaxLineBytes bounds one line of NDJSON and one record of CSV. The longest
// command that can be read is far shorter.
const MaxLineBytes = 256 << 10

// Entry is one command of a file.
type Entry struct {
	Line    int    // where it starts, counted from 1
	Raw     []byte // its JSON as given, or as made of a CSV record; nil if it could not be read that far; valid until the next call
	ID      string // "" if it has none
	Type    string // its CloudEvents type, which may be none of the known; "" if it has none
	Command schemas.Command
	Err     error // what is wrong with it, one sentence; Command is then zero
}

// Next returns the next entry, and io.EOF after the last. Any other error means
// that the file cannot be read on; an entry's Err means only that this one
// cannot.
type Next func() (Entry, error)

// TypeNames are the short names of the commands, which files use.
var TypeNames = []string{
	schemas.CommandCreateBatch.String(), schemas.CommandAllocate.String(),
	schemas.CommandDeallocate.String(), schemas.CommandChangeBatchQuantity.String(),
}

// NDJSON reads objects such as {"type":"Allocate","id":"c-1","orderid":…}, one
// a line. defaultType is the short name of the type of lines that have none, or
// "". Blank lines are skipped.
func NDJSON(r io.Reader, defaultType string) Next {
	in := bufio.NewReaderSize(skipBOM(r), MaxLineBytes)
	line := 0
	return func() (Entry, error) {
		for {
			raw, err := in.ReadSlice('\n')
			if len(raw) == 0 && err != nil {
				return Entry{}, err
			}
			line++
			if errors.Is(err, bufio.ErrBufferFull) {
				return Entry{Line: line, Err: fmt.Errorf("it is longer than %d bytes", MaxLineBytes)}, discardLine(in)
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return Entry{}, err
			}
			if raw = bytes.TrimSpace(raw); len(raw) > 0 {
				return decode(line, raw, defaultType), nil
			}
		}
	}
}

// discardLine reads to the end of a line that is longer than the buffer.
func discardLine(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == nil, errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// decode reads one object. Its members type and id are the file's own; schemas
// ignores them as it does all fields that a command does not have.
func decode(line int, raw []byte, defaultType string) Entry {
	e := Entry{Line: line, Raw: raw, Type: ceType(defaultType)}
	var head struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		// The decoder of the wire has the better sentence for what is no JSON.
		if _, e.Err = schemas.DecodeCommand(schemas.CommandAllocate.CEType(), "", raw); e.Err == nil {
			e.Err = errors.New("type and id must be strings")
		}
		return e
	}
	e.ID = head.ID
	if head.Type != "" {
		e.Type = ceType(head.Type)
	}
	switch {
	case e.Type == "":
		e.Err = errors.New("its type is missing: name it on the line, or give --type for all lines")
	case head.Type != "" && !slices.Contains(TypeNames, head.Type):
		e.Err = fmt.Errorf("the type %.50q is none of %s", head.Type, strings.Join(TypeNames, ", "))
	default:
		e.Command, e.Err = schemas.DecodeCommand(e.Type, schemas.ContentTypeJSON, raw)
	}
	return e
}

// ceType is the CloudEvents type of a short name, known or not.
func ceType(name string) string {
	if name == "" {
		return ""
	}
	return strings.TrimSuffix(schemas.CommandAllocate.CEType(), schemas.CommandAllocate.String()) + name
}

// CSV reads records under a header row that names the fields as NDJSON does, in
// any order: type, id, orderid, sku, ref, qty, eta. Empty cells are absent
// fields; columns of other names are ignored. Several lines that are no CSV end
// the file: a quote that is left open has swallowed other records, which nobody
// would miss where bad lines are left out.
func CSV(r io.Reader, defaultType string) Next {
	limit := &limitedReader{in: skipBOM(r)}
	in := csv.NewReader(limit)
	in.ReuseRecord = true
	in.FieldsPerRecord = -1 // checked here, so that one bad line is only that
	var columns []string
	last := 0
	return func() (Entry, error) {
		limit.left = 2 * MaxLineBytes // what the csv reader has buffered may be the next record's
		cells, err := in.Read()
		if err == nil && columns == nil {
			columns = slices.Clone(cells)
			if !slices.Contains(columns, "sku") {
				return Entry{}, errors.New("line 1 is not a header row with the names of fields such as sku, qty and orderid")
			}
			limit.left, last = 2*MaxLineBytes, 1
			cells, err = in.Read()
		}
		var parse *csv.ParseError
		switch {
		case errors.As(err, &parse) && parse.Line > parse.StartLine:
			return Entry{}, errSwallowed(parse.StartLine, parse.Line)
		case errors.As(err, &parse):
			return Entry{Line: parse.StartLine, Err: fmt.Errorf("it is not CSV: %w", parse.Err)}, nil
		case errors.Is(err, io.EOF):
			return Entry{}, err
		case err != nil && last == 0:
			return Entry{}, err
		case err != nil:
			return Entry{}, fmt.Errorf("after the record of line %d: %w", last, err)
		}
		line, _ := in.FieldPos(0)
		last = line
		if len(cells) != len(columns) {
			if more := strings.Count(strings.Join(cells, ""), "\n"); more > 0 {
				return Entry{}, errSwallowed(line, line+more)
			}
			return Entry{Line: line, Err: fmt.Errorf("it has %d cells and the header row has %d", len(cells), len(columns))}, nil
		}
		return decode(line, object(columns, cells), defaultType), nil
	}
}

func errSwallowed(from, to int) error {
	return fmt.Errorf("lines %d to %d are one record, and not CSV: is a quote of line %d left open?", from, to, from)
}

// object makes the JSON of a CSV record. A quantity that is no number becomes a
// string, for the decoder to say so.
func object(columns, cells []string) []byte {
	b := []byte{'{'}
	for i, name := range columns {
		cell := cells[i]
		if cell == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		if v := jsontext.Value(cell); name == "qty" && v.Kind() == '0' && v.IsValid() {
			b = append(b, cell...)
		} else {
			b = appendString(b, cell)
		}
	}
	return append(b, '}')
}

// appendString quotes s. Bytes that are not UTF-8 are kept as they are: that is
// the decoder's to refuse, not this function's to repair.
func appendString(b []byte, s string) []byte {
	start := len(b)
	b, err := jsontext.AppendQuote(b, s)
	if err != nil {
		b = append(append(append(b[:start], '"'), s...), '"')
	}
	return b
}

// limitedReader ends with an error when more than left bytes are asked for
// without a record's end: an open quote would otherwise swallow the file.
type limitedReader struct {
	in   io.Reader
	left int
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("a record is longer than %d bytes; is a quote left open?", MaxLineBytes)
	}
	n, err := l.in.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// skipBOM drops the byte order mark that spreadsheets put first.
func skipBOM(r io.Reader) io.Reader {
	in := bufio.NewReader(r)
	if head, err := in.Peek(3); err == nil && string(head) == "\uFEFF" {
		// Peeked, so it cannot fail.
		_, _ = in.Discard(3)
	}
	return in
}
