package commandfile_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/cli/internal/commandfile"
)

// entry is an Entry with its error as text.
type entry struct {
	Line    int
	ID      string
	Command schemas.Command
	Err     string
}

func ok(t *testing.T, next commandfile.Next) commandfile.Entry {
	t.Helper()
	e, err := next()
	require.NoError(t, errors.Join(err, e.Err))
	return e
}

func readAll(t *testing.T, next commandfile.Next) []entry {
	t.Helper()
	var all []entry
	for {
		e, err := next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		got := entry{e.Line, e.ID, e.Command, ""}
		if e.Err != nil {
			got.Err = e.Err.Error()
		}
		all = append(all, got)
	}
}

var allocate = schemas.Command{Type: schemas.CommandAllocate, OrderID: "o-1", SKU: "LAMP", Qty: 3}

func TestNDJSON(t *testing.T) {
	in := "\uFEFF" + `{"type":"CreateBatch","ref":"b-1","sku":"LAMP","qty":100,"eta":"2031-01-02"}

{"id":"c-2","type":"Allocate","orderid":"o-1","sku":"LAMP","qty":3,"note":"gift"}` + "\r\n" +
		`{"id":"c-3","orderid":"o-1","sku":"LAMP","type":"Deallocate"}` // no line feed at the end
	require.Equal(t, []entry{
		{1, "", schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b-1", SKU: "LAMP", Qty: 100, ETA: "2031-01-02"}, ""},
		{3, "c-2", allocate, ""},
		{4, "c-3", schemas.Command{Type: schemas.CommandDeallocate, OrderID: "o-1", SKU: "LAMP"}, ""},
	}, readAll(t, commandfile.NDJSON(strings.NewReader(in), "")))
}

func TestNDJSONOfOneType(t *testing.T) {
	in := `{"orderid":"o-1","sku":"LAMP","qty":3}
{"type":"Deallocate","orderid":"o-1","sku":"LAMP"}`
	got := readAll(t, commandfile.NDJSON(strings.NewReader(in), "Allocate"))
	require.Equal(t, allocate, got[0].Command)
	require.Equal(t, schemas.CommandDeallocate, got[1].Command.Type, "a line's own type wins")
}

func TestNDJSONBadLinesAreSentencesAndTheNextLineIsRead(t *testing.T) {
	good := `{"type":"Allocate","orderid":"o-1","sku":"LAMP","qty":3}`
	for name, c := range map[string]struct{ line, want string }{
		"no type":         {`{"orderid":"o-1","sku":"LAMP","qty":3}`, "its type is missing: name it on the line, or give --type for all lines"},
		"unknown type":    {`{"type":"Alocate","sku":"LAMP"}`, `the type "Alocate" is none of CreateBatch, Allocate, Deallocate, ChangeBatchQuantity`},
		"an event's type": {`{"type":"Allocated"}`, `the type "Allocated" is none of`},
		"type a number":   {`{"type":7,"orderid":"o-1","sku":"LAMP","qty":3}`, "type and id must be strings"},
		"too long":        {`{"type":"` + strings.Repeat("x", commandfile.MaxLineBytes) + `"}`, "it is longer than 262144 bytes"},
		"no JSON":         {`nonsense`, ""},
		"cut off":         {`{"type":"Allocate","orderid":"o-1"`, ""},
		"no UTF-8":        {"{\"type\":\"Allocate\",\"orderid\":\"\xff\",\"sku\":\"LAMP\",\"qty\":3}", "UTF-8"},
		"missing field":   {`{"type":"Allocate","orderid":"o-1","sku":"LAMP"}`, "qty"},
		"huge quantity":   {`{"type":"Allocate","orderid":"o-1","sku":"LAMP","qty":1e30}`, "qty"},
		"twice a name":    {`{"type":"Allocate","type":"Allocate","orderid":"o-1","sku":"LAMP","qty":3}`, "type"},
		"an array":        {`[1,2]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := readAll(t, commandfile.NDJSON(strings.NewReader(good+"\n"+c.line+"\n"+good+"\n"), ""))
			require.Len(t, got, 3)
			require.Equal(t, 2, got[1].Line)
			require.NotEmpty(t, got[1].Err)
			require.Contains(t, got[1].Err, c.want)
			require.Zero(t, got[1].Command)
			require.Equal(t, entry{3, "", allocate, ""}, got[2])
		})
	}
}

func TestBadLinesKeepWhatIsNeededToSendThem(t *testing.T) {
	next := commandfile.NDJSON(strings.NewReader("\xff\xfe\n"+`{"type":"Nothing","id":"c-1"}`), "Allocate")
	e, err := next()
	require.NoError(t, err)
	require.Equal(t, "\xff\xfe", string(e.Raw))
	require.Equal(t, "lotline.command.v1.Allocate", e.Type)
	e, err = next()
	require.NoError(t, err)
	require.Equal(t, "lotline.command.v1.Nothing", e.Type)
	require.Equal(t, "c-1", e.ID)
}

func TestCSV(t *testing.T) {
	in := "\uFEFFtype,id,orderid,sku,ref,qty,eta,remark\r\n" +
		"CreateBatch,,,\"LAMP, RED\",b-1,100,2031-01-02,x\r\n" +
		"CreateBatch,,,LAMP,\"b\n2\",100,,x\r\n" +
		"Allocate,c-2,o-1,LAMP,,3,,\r\n" +
		"Allocate,c-3,o-1,LAMP,,three,,\r\n" +
		"Allocate,c-4,o-1,LAMP\r\n" +
		"Allocate,c-5,o-1,LAMP,,,,\r\n" +
		"Allocate,c-6,o-1,LAMP \"x\",,3,,\r\n" +
		"Allocate,c-7,\xff,LAMP,,3,,\r\n" +
		"Deallocate,c-8,o-1,LAMP,,,,\r\n"
	got := readAll(t, commandfile.CSV(strings.NewReader(in), ""))
	require.Len(t, got, 9)
	require.Equal(t, entry{2, "", schemas.Command{Type: schemas.CommandCreateBatch, Ref: "b-1", SKU: "LAMP, RED", Qty: 100, ETA: "2031-01-02"}, ""}, got[0])
	require.Equal(t, 3, got[1].Line)
	require.Contains(t, got[1].Err, "ref", "an id with a control character")
	require.Equal(t, entry{5, "c-2", allocate, ""}, got[2], "lines are counted, not records")
	require.Contains(t, got[3].Err, "qty")
	require.Equal(t, "it has 4 cells and the header row has 8", got[4].Err)
	require.Contains(t, got[5].Err, "qty")
	require.Equal(t, 9, got[6].Line)
	require.Contains(t, got[6].Err, "it is not CSV")
	require.Contains(t, got[7].Err, "UTF-8")
	require.Equal(t, entry{11, "c-8", schemas.Command{Type: schemas.CommandDeallocate, OrderID: "o-1", SKU: "LAMP"}, ""}, got[8])
}

func TestCSVNeedsAHeaderRow(t *testing.T) {
	_, err := commandfile.CSV(strings.NewReader("Allocate,o-1,LAMP,3\n"), "")()
	require.ErrorContains(t, err, "line 1 is not a header row")
	_, err = commandfile.CSV(strings.NewReader(""), "")()
	require.ErrorIs(t, err, io.EOF)
}

func TestAnOpenQuoteDoesNotSwallowTheFile(t *testing.T) {
	row := "o-1,LAMP,3\n"
	many := strings.Repeat(row, 200_000) // 2.2 MB, in bounds record by record
	next := commandfile.CSV(strings.NewReader("orderid,sku,qty\n"+many), "Allocate")
	require.Len(t, readAll(t, next), 200_000)

	next = commandfile.CSV(strings.NewReader("orderid,sku,qty\n\"o-1,LAMP,3\n"+many), "Allocate")
	_, err := next()
	require.ErrorContains(t, err, "after the record of line 1: a record is longer than 262144 bytes; is a quote left open?")
	_, err = commandfile.CSV(strings.NewReader("orderid,\"sku,qty\n"+many), "Allocate")()
	require.EqualError(t, err, "a record is longer than 262144 bytes; is a quote left open?")

	next = commandfile.CSV(strings.NewReader("orderid,sku,qty\n"+row+"\n"+row+"\"o-1,LAMP,3\n"+many), "Allocate")
	require.Equal(t, 2, ok(t, next).Line)
	require.Equal(t, 4, ok(t, next).Line)
	_, err = next()
	require.ErrorContains(t, err, "after the record of line 4: ")
}

func TestAFileThatCannotBeReadOnEndsWithItsError(t *testing.T) {
	for name, next := range map[string]commandfile.Next{
		"ndjson": commandfile.NDJSON(iotest.ErrReader(io.ErrUnexpectedEOF), ""),
		"csv":    commandfile.CSV(iotest.ErrReader(io.ErrUnexpectedEOF), ""),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := next()
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		})
	}
}

func FuzzNDJSON(f *testing.F) {
	f.Add([]byte(`{"type":"Allocate","orderid":"o-1","sku":"LAMP","qty":3}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, e := range readAll(t, commandfile.NDJSON(strings.NewReader(string(in)), "Allocate")) {
			require.NotEqual(t, e.Err == "", e.Command == schemas.Command{}, "a command or a sentence, never both or neither")
		}
	})
}
