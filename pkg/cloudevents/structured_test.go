package cloudevents_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/cloudevents"
)

const structured = "application/cloudevents+json"

func TestReadTakesBothModes(t *testing.T) {
	noon := time.Date(2031, 1, 2, 12, 0, 0, 0, time.UTC)
	plain := cloudevents.Envelope{ID: "c-1", Source: "/shop", Type: "T", ContentType: "application/json"}
	for name, c := range map[string]struct {
		contentType, value string
		want               cloudevents.Envelope
		data               string
	}{
		"binary":                     {"application/json", "anything", cloudevents.Envelope{Type: "header", ContentType: "application/json"}, "anything"},
		"binary, another JSON":       {"application/cloudevent", "{}", cloudevents.Envelope{Type: "header", ContentType: "application/cloudevent"}, "{}"},
		"structured":                 {structured, `{"specversion":"1.0","id":"c-1","source":"/shop","type":"T","data":{"qty":3}}`, plain, `{"qty":3}`},
		"a charset":                  {"Application/CloudEvents+JSON ; charset=UTF-8", `{"id":"c-1","source":"/shop","type":"T","data":{}}`, plain, `{}`},
		"spaces, and data first":     {structured, " {\n\"data\" :\t{ \"a\" : [1] } , \"type\":\"T\",\"id\":\"c-1\",\"source\":\"/shop\"} \r\n", plain, `{ "a" : [1] }`},
		"escapes":                    {structured, `{"t\u0079pe":"\u0054","id":"c\u002d1","source":"\/shop","data":"\u0041"}`, plain, `"\u0041"`},
		"extensions of every kind":   {structured, `{"type":"T","id":"c-1","source":"/shop","data":{},"n":1.5,"b":true,"o":{"type":"x"},"a":[null],"":""}`, plain, `{}`},
		"a trace":                    {structured, `{"type":"T","data":{},"traceparent":"00-\u0061","tracestate":"a=b"}`, cloudevents.Envelope{Type: "T", ContentType: "application/json", TraceParent: "00-a", TraceState: "a=b"}, `{}`},
		"traces that are none":       {structured, `{"type":"T","data":{},"traceparent":{"x":1},"tracestate":7}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, `{}`},
		"a long and odd trace":       {structured, `{"type":"T","data":{},"traceparent":"\u0000` + strings.Repeat("x", 300) + `"}`, cloudevents.Envelope{Type: "T", ContentType: "application/json", TraceParent: "\x00" + strings.Repeat("x", 300)}, `{}`},
		"nulls are absent":           {structured, `{"type":"T","id":null,"source":null,"time":null,"datacontenttype":null,"data_base64":null,"data":0}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, `0`},
		"a time":                     {structured, `{"type":"T","time":"2031-01-02T14:00:00+02:00","data":{}}`, cloudevents.Envelope{Type: "T", ContentType: "application/json", Time: noon}, `{}`},
		"a time that is no time":     {structured, `{"type":"T","time":"tomorrow","data":{}}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, `{}`},
		"another JSON":               {structured, `{"type":"T","datacontenttype":"application/vnd.shop+json; v=1","data":{}}`, cloudevents.Envelope{Type: "T", ContentType: "application/vnd.shop+json; v=1"}, `{}`},
		"bytes":                      {structured, `{"type":"T","datacontenttype":"application/protobuf","data_base64":"CgFv/w=="}`, cloudevents.Envelope{Type: "T", ContentType: "application/protobuf"}, "\x0a\x01o\xff"},
		"no bytes":                   {structured, `{"type":"T","datacontenttype":"application/protobuf","data_base64":""}`, cloudevents.Envelope{Type: "T", ContentType: "application/protobuf"}, ""},
		"JSON as bytes":              {structured, `{"type":"T","data_base64":"e30="}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, "{}"},
		"16 levels of data":          {structured, `{"type":"T","data":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, strings.Repeat("[", 16) + strings.Repeat("]", 16)},
		"a type of 255":              {structured, `{"type":"` + strings.Repeat("x", 255) + `","data":{}}`, cloudevents.Envelope{Type: strings.Repeat("x", 255), ContentType: "application/json"}, `{}`},
		"names in another case":      {structured, `{"type":"T","ID":"x","Data":1,"data":2}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, `2`},
		"the same name inside":       {structured, `{"type":"T","x":{"data":1},"data":{"data":2,"type":3}}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, `{"data":2,"type":3}`},
		"attributes with emptiness":  {structured, `{"type":"T","id":"","source":"","data":{}}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, `{}`},
		"a header of another record": {structured, `{"type":"T","data":{}}`, cloudevents.Envelope{Type: "T", ContentType: "application/json"}, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, data, err := cloudevents.Read(headers("ce_type", "header", "content-type", c.contentType), []byte(c.value))
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, c.data, string(data))
		})
	}
}

func TestReadRefusesInOneSentence(t *testing.T) {
	deep := func(levels int) string {
		return `{"type":"T","x":` + strings.Repeat("[", levels) + strings.Repeat("]", levels) + `,"data":{}}`
	}
	for name, c := range map[string]struct{ contentType, value, want string }{
		"a batch":                  {"application/cloudevents-batch+json", `[]`, `the content type "application/cloudevents-batch+json" is a batch of messages: send each as a record of its own, as application/cloudevents+json`},
		"a batch, otherwise":       {"Application/CloudEvents-Batch+JSON; charset=utf-8", `[]`, `the content type "application/cloudevents-batch+json" is a batch of messages: send each as a record of its own, as application/cloudevents+json`},
		"another format":           {"application/cloudevents+avro", ``, `the content type "application/cloudevents+avro" is not understood, of CloudEvents' own formats only application/cloudevents+json is`},
		"no format":                {"application/cloudevents", `{}`, `the content type "application/cloudevents" is not understood, of CloudEvents' own formats only application/cloudevents+json is`},
		"a long content type":      {"application/cloudevents+" + strings.Repeat("é\n", 100), ``, `the content type "application/cloudevents+é\né\né\né\né\n..." is not understood, of CloudEvents' own formats only application/cloudevents+json is`},
		"nothing":                  {structured, ``, "the CloudEvents document is empty"},
		"an array":                 {structured, `[{"type":"T"}]`, "the CloudEvents document is not a JSON object"},
		"too large":                {structured, strings.Repeat(" ", cloudevents.MaxDocumentBytes+1), "the CloudEvents document is 2097153 bytes long, more than 2097152"},
		"no JSON":                  {structured, "\x00", `the CloudEvents document is not valid JSON at byte 0: invalid character '\x00' at start of value`},
		"not UTF-8":                {structured, "{\"type\":\"\xff\"}", "the CloudEvents document is not valid JSON at byte 9: invalid UTF-8"},
		"cut off":                  {structured, `{"type":"T","data":{"qty`, "the CloudEvents document ends too early at byte 24"},
		"more after it":            {structured, `{"type":"T","data":{}} {}`, "there is more after the CloudEvents document at byte 22"},
		"too deep":                 {structured, deep(17), "the CloudEvents document is nested deeper than 17 levels at byte 32"},
		"far too deep":             {structured, `{"data":` + strings.Repeat(`{"x":`, 100_000), "the CloudEvents document is nested deeper than 17 levels at byte 88"},
		"an attribute twice":       {structured, `{"type":"T","id":"a","id":"b","data":{}}`, `the name "id" appears twice in the CloudEvents document`},
		"an attribute in disguise": {structured, `{"type":"T","id":"a","\u0069d":"a","data":{}}`, `the name "id" appears twice in the CloudEvents document`},
		"a field twice":            {structured, `{"type":"T","data":{"qty":1,"qty":2}}`, `the name "qty" appears twice in the CloudEvents document`},
		"an extension twice":       {structured, `{"type":"T","x":1,"x":1,"data":{}}`, `the name "x" appears twice in the CloudEvents document`},
		"no type":                  {structured, `{"id":"1","data":{}}`, "the attribute type is missing, which names the type of the message"},
		"an empty type":            {structured, `{"type":"","data":{}}`, "the attribute type is missing, which names the type of the message"},
		"a number as id":           {structured, `{"type":"T","id":7,"data":{}}`, "the attribute id must be a string"},
		"an object as type":        {structured, `{"type":{},"data":{}}`, "the attribute type must be a string"},
		"another version":          {structured, `{"specversion":"0.3","type":"T","data":{}}`, `the attribute specversion is "0.3", and only "1.0" is understood`},
		"a long source":            {structured, `{"type":"T","source":"` + strings.Repeat("x", 256) + `","data":{}}`, "the attribute source is 256 bytes long, more than 255"},
		"a control character":      {structured, `{"type":"T","id":"a\nb","data":{}}`, "the attribute id has a control character"},
		"no data":                  {structured, `{"type":"T"}`, "the CloudEvents document has neither data nor data_base64"},
		"null as data":             {structured, `{"type":"T","data":null}`, "the CloudEvents document has neither data nor data_base64"},
		"both":                     {structured, `{"type":"T","data":{},"data_base64":""}`, "the CloudEvents document has both data and data_base64"},
		"no base64":                {structured, `{"type":"T","data_base64":"e30"}`, "data_base64 is not valid base64"},
		"base64 with loose bits":   {structured, `{"type":"T","data_base64":"e31="}`, "data_base64 is not valid base64"},
		"no string as base64":      {structured, `{"type":"T","data_base64":{}}`, "the attribute data_base64 must be a string"},
		"protobuf as JSON":         {structured, `{"type":"T","datacontenttype":"application/protobuf","data":"CgFv"}`, `the CloudEvents document has JSON as data and says that it is "application/protobuf": such data belongs in data_base64`},
	} {
		t.Run(name, func(t *testing.T) {
			got, data, err := cloudevents.Read(headers("ce_type", "header", "content-type", "application/json", "content-type", c.contentType), []byte(c.value))
			require.EqualError(t, err, c.want)
			require.Zero(t, got)
			require.Nil(t, data)
		})
	}
}

func TestStructuredIsReadBack(t *testing.T) {
	e := cloudevents.Envelope{
		ID: `c-"1"`, Source: "/shop", Type: "lotline.command.v1.Allocate", ContentType: "application/json",
		Time: time.Date(2031, 1, 2, 3, 4, 5, 678_000_000, time.UTC),
	}
	h, value := cloudevents.Structured(e, []byte(`{"qty":3}`))
	require.Equal(t, headers("content-type", structured), h)
	require.Equal(t, `{"specversion":"1.0","id":"c-\"1\"","source":"/shop","type":"lotline.command.v1.Allocate",`+
		`"time":"2031-01-02T03:04:05.678Z","datacontenttype":"application/json","data":{"qty":3}}`, string(value))
	got, data, err := cloudevents.Read(h, value)
	require.NoError(t, err)
	require.Equal(t, e, got)
	require.Equal(t, `{"qty":3}`, string(data))

	e.ContentType, e.Time = "application/protobuf", time.Time{}
	e.TraceParent, e.TraceState = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b"
	h, value = cloudevents.Structured(e, []byte{0xff, 0})
	require.Contains(t, string(value), `"datacontenttype":"application/protobuf","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tracestate":"a=b","data_base64":"/wA="}`)
	got, data, err = cloudevents.Read(h, value)
	require.NoError(t, err)
	require.Equal(t, e, got)
	require.Equal(t, []byte{0xff, 0}, data)
}

func TestDecodeHandsTheDataOver(t *testing.T) {
	refuse := errors.New("not today")
	decode := func(ceType, contentType string, data []byte) (string, error) {
		if len(data) == 0 {
			return "", refuse
		}
		return fmt.Sprint(ceType, " ", contentType, " ", string(data)), nil
	}
	h := headers("ce_type", "T", "ce_id", "1", "content-type", "application/json")
	e, decoded, err := cloudevents.Decode(h, []byte("{}"), decode)
	require.NoError(t, err)
	require.Equal(t, "1", e.ID)
	require.Equal(t, "T application/json {}", decoded)
	e, _, err = cloudevents.Decode(h, nil, decode)
	require.ErrorIs(t, err, refuse)
	require.Equal(t, "1", e.ID, "what could be read")
	_, _, err = cloudevents.Decode(nil, []byte("{}"), decode)
	require.ErrorContains(t, err, "ce_type is missing")
}

// FuzzReadStructured: what is taken is JSON, its data is a part of it, and what is refused has a sentence.
func FuzzReadStructured(f *testing.F) {
	for _, seed := range []string{
		``, `{`, `{"type":"T","data":{}}`, `{"type":"T","id":"1","source":"/s","time":"2031-01-02T03:04:05Z","x":[{"y":null}],"data":[1,"a"]}`,
		`{"type":"T","datacontenttype":"application/protobuf","data_base64":"CgFv","traceparent":"\u0000","tracestate":"é"}`, "{\"\xff\":0}", `{"type":"\ud800"}`, `{"a":1,"\u0061":2}`, "{\"type\":\"T\" \u0085",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		before := string(value)
		e, data, err := cloudevents.Read(headers("content-type", structured), value)
		require.Equal(t, before, string(value), "it wrote to its input")
		if err != nil {
			require.True(t, len(err.Error()) <= 400 && utf8.ValidString(err.Error()), "%q", err)
			require.False(t, strings.ContainsFunc(err.Error(), unicode.IsControl), "%q", err)
			return
		}
		require.True(t, json.Valid(value))
		if year := e.Time.Year(); year < 1 || year > 9999 {
			return // RFC 3339 has four digits for it
		}
		h, again := cloudevents.Structured(e, data)
		e.Time = e.Time.Truncate(time.Millisecond)
		got, gotData, err := cloudevents.Read(h, again)
		if err != nil && strings.Contains(before, `data_`) {
			return // bytes that are said to be JSON, and are not
		}
		require.NoError(t, err)
		require.Equal(t, e, got)
		require.Equal(t, string(data), string(gotData))
	})
}

// BenchmarkRead shows what each mode costs a reader; Parse is the part of binary mode that has always been.
func BenchmarkRead(b *testing.B) {
	e := cloudevents.Envelope{
		ID: "7f1f0a52-6f5a-4b0e-9d0e-9a6f0f8f3c11", Source: "/shop/checkout", Type: "lotline.command.v1.Allocate",
		ContentType: "application/json", Time: time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	data := []byte(`{"orderid":"order-0012345","sku":"SMALL-TABLE","qty":3}`)
	binary := cloudevents.Headers(e)
	document, value := cloudevents.Structured(e, data)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := cloudevents.Parse(binary); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("binary", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := cloudevents.Read(binary, data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("structured", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := cloudevents.Read(document, value); err != nil {
				b.Fatal(err)
			}
		}
	})
}
