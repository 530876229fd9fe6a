package schemas

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	ceAllocate    = "lotline.command.v1.Allocate"
	ceCreateBatch = "lotline.command.v1.CreateBatch"
	ceAllocated   = "lotline.event.v1.Allocated"
	plainAllocate = `{"orderid":"o1","sku":"s","qty":3}`
)

func TestDecodeCommandAccepts(t *testing.T) {
	line := Command{Type: CommandAllocate, OrderID: "o1", SKU: "s", Qty: 3}
	batch := Command{Type: CommandCreateBatch, Ref: "b", SKU: "s", Qty: 3}
	withQty := func(c Command, qty int32) Command { c.Qty = qty; return c }
	withETA := func(c Command, eta string) Command { c.ETA = eta; return c }
	for name, tt := range map[string]struct {
		ceType, contentType, data string
		want                      Command
	}{
		"no content type":          {ceAllocate, "", plainAllocate, line},
		"content type parameters":  {ceAllocate, "Application/JSON ; charset=utf-8", plainAllocate, line},
		"any order and spaces":     {ceAllocate, "", " {\n\t\"qty\" : 3 ,\r\n\"sku\":\"s\", \"orderid\":\"o1\" } \n", line},
		"escaped name and text":    {ceAllocate, "", `{"order\u0069d":"\u006f1","sku":"\u0073","qty":3}`, line},
		"unknown fields":           {ceAllocate, "", `{"a":[{"qty":9},null,-1.5e9],"orderid":"o1","Qty":1,"sku":"s","":true,"qty":3,"eta":7}`, line},
		"unknown field, 16 levels": {ceAllocate, "", `{"x":` + nested(15) + `,` + plainAllocate[1:], line},
		"fraction of zeros":        {ceAllocate, "", `{"orderid":"o1","sku":"s","qty":3.000}`, line},
		"exponent":                 {ceAllocate, "", `{"orderid":"o1","sku":"s","qty":0.3E+1}`, line},
		"negative exponent":        {ceAllocate, "", `{"orderid":"o1","sku":"s","qty":-3000e-2}`, withQty(line, -30)},
		"zeros of all kinds":       {ceAllocate, "", `{"orderid":"o1","sku":"s","qty":-0.00e-9}`, withQty(line, 0)},
		"qty negative":             {ceAllocate, "", `{"orderid":"o1","sku":"s","qty":-2147483648}`, withQty(line, -1<<31)},
		"qty beyond the domain":    {ceAllocate, "", `{"orderid":"o1","sku":"s","qty":2147483647}`, withQty(line, 1<<31-1)},
		"eta absent":               {ceCreateBatch, "", `{"ref":"b","sku":"s","qty":3}`, batch},
		"eta null":                 {ceCreateBatch, "", `{"ref":"b","sku":"s","qty":3,"eta":null}`, batch},
		"eta empty":                {ceCreateBatch, "", `{"ref":"b","sku":"s","qty":3,"eta":""}`, batch},
		"eta far away":             {ceCreateBatch, "", `{"ref":"b","sku":"s","qty":3,"eta":"9999-12-31"}`, withETA(batch, "9999-12-31")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeCommand(tt.ceType, tt.contentType, []byte(tt.data))
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestDecodeCommandRefuses(t *testing.T) {
	allocate := func(orderID, sku, qty string) string {
		return `{"orderid":` + orderID + `,"sku":` + sku + `,"qty":` + qty + `}`
	}
	eta := func(eta string) string { return `{"ref":"b","sku":"s","qty":3,"eta":` + eta + `}` }
	const whole = " is not a whole number from -2147483648 to 2147483647"
	for _, tt := range []struct{ ceType, data, want string }{
		{"", plainAllocate, `the type "" is not a known command`},
		{"Allocate", plainAllocate, `the type "Allocate" is not a known command`},
		{"lotline.event.v1.Allocated", plainAllocate, `the type "lotline.event.v1.Allocated" is not a known command`},
		{strings.Repeat("é\n", 50), plainAllocate, `the type "` + strings.Repeat(`é\n`, 13) + `..." is not a known command`},

		{ceAllocate, "", "the data is empty"},
		{ceAllocate, " \n", "the data is empty"},
		{ceAllocate, strings.Repeat(" ", MaxDataBytes+1), "the data is 1048577 bytes; at most 1048576 are accepted"},
		{ceAllocate, "null", "the data must be a JSON object, not null"},
		{ceAllocate, "[" + plainAllocate + "]", "the data must be a JSON object, not an array"},
		{ceAllocate, `"o1"`, "the data must be a JSON object, not a string"},
		{ceAllocate, "17", "the data must be a JSON object, not a number"},
		{ceAllocate, "true", "the data must be a JSON object, not a boolean"},

		{ceAllocate, "o1,s,3", `the data is not valid JSON at byte 0: invalid character 'o' at start of value`},
		{ceAllocate, "\xef\xbb\xbf" + plainAllocate, `the data is not valid JSON at byte 0: invalid character '\ufeff' at start of value`},
		{ceAllocate, `{'orderid':"o1"}`, `the data is not valid JSON at byte 1: invalid character '\'' at start of value`},
		{ceAllocate, `{"orderid":"o1",}`, `the data is not valid JSON at byte 15: invalid character ',' at start of value`},
		{ceAllocate, `{"orderid":}`, `the data is not valid JSON at byte 11: invalid character '}' at start of value`},
		{ceAllocate, `{"orderid":"\ud800"}`, "the data is not valid JSON at byte 12: invalid surrogate pair `\\ud800\"}` in string"},
		{ceAllocate, allocate(`"o1"`, `"s"`, "03"), `the data is not valid JSON at byte 33: invalid character '3' after object value (expecting ',' or '}')`},
		{ceAllocate, allocate(`"o1"`, `"s"`, "NaN"), `the data is not valid JSON at byte 32: invalid character 'N' at start of value`},
		{ceAllocate, plainAllocate[:20], "the JSON ends too early at byte 20"},
		{ceAllocate, plainAllocate[:33], "the JSON ends too early at byte 33"},
		{ceAllocate, plainAllocate + plainAllocate, "there is more after the JSON object at byte 34"},
		{ceAllocate, plainAllocate + "}", "there is more after the JSON object at byte 34"},
		{ceAllocate, allocate("\"o\xff\"", `"s"`, "3"), "the data is not valid UTF-8 at byte 13"},
		{ceAllocate, "{\"x\":[\"\xe2\x82\"]}", "the data is not valid UTF-8 at byte 7"},
		{ceAllocate, "{\"\xc0\xaf\":1}", "the data is not valid UTF-8 at byte 2"},
		{ceAllocate, "\xff", "the data is not valid UTF-8 at byte 0"},
		{ceAllocate, `{"qty":3,"orderid":"o1","sku":"s","qty":4}`, `the name "qty" appears twice`},
		{ceAllocate, `{"qty":3,"q\u0074y":3}`, `the name "qty" appears twice`},
		{ceAllocate, `{"x":{"a/b":1,"c":2,"a/b":3}}`, `the name "a/b" appears twice`},
		{ceAllocate, `{"x":` + nested(16) + `,` + plainAllocate[1:], "the JSON is nested deeper than 16 levels at byte 20"},
		{ceAllocate, strings.Repeat(`{"x":`, 100_000), "the JSON is nested deeper than 16 levels at byte 80"},

		{ceAllocate, `{}`, "orderid is missing"},
		{ceAllocate, `{"orderid":"o1","SKU":"s","qty":3}`, "sku is missing"},
		{ceAllocate, `{"orderid":"o1","sku":"s"}`, "qty is missing"},
		{ceCreateBatch, `{"sku":"s","qty":3,"eta":null}`, "ref is missing"},
		{ceAllocate, allocate(`null`, `"s"`, "3"), "orderid must not be null"},
		{ceAllocate, allocate(`"o1"`, `"s"`, "null"), "qty must not be null"},
		{ceAllocate, allocate(`7`, `"s"`, "3"), "orderid must be a string, not a number"},
		{ceAllocate, allocate(`"o1"`, `["s"]`, "3"), "sku must be a string, not an array"},
		{ceAllocate, allocate(`"o1"`, `"s"`, `"3"`), "qty must be a number, not a string"},
		{ceAllocate, allocate(`"o1"`, `"s"`, `false`), "qty must be a number, not a boolean"},
		{ceAllocate, allocate(`"o1"`, `"s"`, `{"n":3}`), "qty must be a number, not an object"},

		{ceAllocate, allocate(`"o1"`, `"s"`, "2147483648"), "qty 2147483648" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "-2147483649"), "qty -2147483649" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "18446744073709551619"), "qty 18446744073709551619" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "1e30"), "qty 1e30" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "1e999999999999999999999"), "qty 1e999999999999999999999" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "-1E9223372036854775807"), "qty -1E9223372036854775807" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "0.1e-9223372036854775808"), "qty 0.1e-9223372036854775808" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "1e-400"), "qty 1e-400" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "2.5"), "qty 2.5" + whole},
		{ceAllocate, allocate(`"o1"`, `"s"`, "3."+strings.Repeat("0", 60)+"1"), "qty 3." + strings.Repeat("0", 38) + "..." + whole},

		{ceAllocate, allocate(`""`, `"s"`, "3"), "orderid must not be empty"},
		{ceAllocate, allocate(`"o1"`, `""`, "3"), "sku must not be empty"},
		{ceCreateBatch, `{"ref":"","sku":"s","qty":3,"eta":null}`, "ref must not be empty"},
		{ceAllocate, allocate(`"o1"`, `"`+strings.Repeat("s", 256)+`"`, "3"), "sku is 256 bytes; at most 255 are accepted"},
		{ceAllocate, allocate(`"`+strings.Repeat("é", 128)+`"`, `"s"`, "3"), "orderid is 256 bytes; at most 255 are accepted"},
		{ceAllocate, allocate(`"o\u0000"`, `"s"`, "3"), "orderid contains the control character U+0000"},
		{ceAllocate, allocate(`"o1"`, `"a\nb"`, "3"), "sku contains the control character U+000A"},
		{ceAllocate, allocate(`"o1"`, "\"a\u0085\"", "3"), "sku contains the control character U+0085"},
		{ceAllocate, allocate(`"o1"`, "\"a\u007f\"", "3"), "sku contains the control character U+007F"},

		{ceCreateBatch, eta(`20310102`), "eta must be a string or null, not a number"},
		{ceCreateBatch, eta(`"2031-02-29"`), `eta "2031-02-29" is not a calendar date of the form YYYY-MM-DD`},
		{ceCreateBatch, eta(`"2031-13-01"`), `eta "2031-13-01" is not a calendar date of the form YYYY-MM-DD`},
		{ceCreateBatch, eta(`"2031-01-00"`), `eta "2031-01-00" is not a calendar date of the form YYYY-MM-DD`},
		{ceCreateBatch, eta(`"2031-1-2"`), `eta "2031-1-2" is not a calendar date of the form YYYY-MM-DD`},
		{ceCreateBatch, eta(`"12031-01-02"`), `eta "12031-01-02" is not a calendar date of the form YYYY-MM-DD`},
		{ceCreateBatch, eta(`" 2031-01-02"`), `eta " 2031-01-02" is not a calendar date of the form YYYY-MM-DD`},
		{ceCreateBatch, eta(`"2031-01-02T00:00:00Z"`), `eta "2031-01-02T00:00:00Z" is not a calendar date of the form YYYY-MM-DD`},
	} {
		got, err := DecodeCommand(tt.ceType, "", []byte(tt.data))
		require.EqualError(t, err, tt.want, "%.200q", tt.data)
		require.Zero(t, got)
	}
}

func TestDecodeRefusesContentTypes(t *testing.T) {
	for contentType, want := range map[string]string{
		"text/plain":            `the content type "text/plain" is not supported, only application/json and application/protobuf are`,
		"application/jsonl":     `the content type "application/jsonl" is not supported, only application/json and application/protobuf are`,
		"application/protobuf2": `the content type "application/protobuf2" is not supported, only application/json and application/protobuf are`,
		";charset=utf-8":        `the content type ";charset=utf-8" is not supported, only application/json and application/protobuf are`,
	} {
		_, err := DecodeCommand(ceAllocate, contentType, []byte(plainAllocate))
		require.EqualError(t, err, want)
		_, err = DecodeEvent(ceAllocated, contentType, []byte(`{}`))
		require.EqualError(t, err, want)
	}
}

// TestDecodeEventRefuses covers what events have and commands have not; the rest is one code.
func TestDecodeEventRefuses(t *testing.T) {
	sample := eventSamples["lotline.event.v1.Allocated/plain"]
	good := string(AppendEvent(nil, &sample))
	for _, tt := range []struct{ old, new, want string }{
		{`"version":2`, `"version":-1`, "version -1 is not a whole number from 0 to 18446744073709551615"},
		{`"version":2`, `"version":18446744073709551616`, "version 18446744073709551616 is not a whole number from 0 to 18446744073709551615"},
		{`"available":97}`, `"available":9223372036854775808}`, "available 9223372036854775808 is not a whole number from -9223372036854775808 to 9223372036854775807"},
		{`"seq":0`, `"seq":0.5`, "seq 0.5 is not a whole number from -2147483648 to 2147483647"},
		{`"last":true`, `"last":1`, "last must be true or false, not a number"},
		{`"last":true`, `"last":null`, "last must not be null"},
		{`"last":true,`, ``, "last is missing"},
		{`"commandsource":"/shop/checkout",`, ``, "commandsource is missing"},
		{`"/shop/checkout"`, `"/shop\u0007"`, "commandsource contains the control character U+0007"},
		{sampleCommandID, ``, "commandid must not be empty"},
		{`"batchref":"batch-001"`, `"batchref":""`, "batchref must not be empty"},
	} {
		require.Contains(t, good, tt.old)
		got, err := DecodeEvent(ceAllocated, "", []byte(strings.Replace(good, tt.old, tt.new, 1)))
		require.EqualError(t, err, tt.want)
		require.Zero(t, got)
	}
	_, err := DecodeEvent(ceAllocate, "", []byte(good))
	require.EqualError(t, err, `the type "lotline.command.v1.Allocate" is not a known event`)
}

func TestTypes(t *testing.T) {
	require.Equal(t, "ChangeBatchQuantity", CommandChangeBatchQuantity.String())
	require.Equal(t, "lotline.command.v1.ChangeBatchQuantity", CommandChangeBatchQuantity.CEType())
	require.Equal(t, "CommandType(0)", CommandType(0).String())
	require.Equal(t, "OutOfStock", EventOutOfStock.String())
	require.Equal(t, "lotline.event.v1.OutOfStock", EventOutOfStock.CEType())
	require.Equal(t, "EventType(8)", EventType(8).String())
	for e := EventBatchCreated; e <= EventCommandRejected; e++ {
		require.Equal(t, e != EventCommandIgnored && e != EventCommandRejected, e.ChangesState(), e.String())
	}
	require.False(t, EventType(0).ChangesState())
}

// nested is a JSON value of that many arrays inside each other.
func nested(levels int) string {
	return strings.Repeat("[", levels) + strings.Repeat("]", levels)
}
