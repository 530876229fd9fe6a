package cloudevents_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func headers(pairs ...string) []kgo.RecordHeader {
	var h []kgo.RecordHeader
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return h
}

func TestHeadersAreWrittenInAFixedOrderAndReadBack(t *testing.T) {
	e := cloudevents.Envelope{
		ID: "c-1", Source: "/shop", Type: "lotline.command.v1.Allocate", ContentType: "application/json",
		Time: time.Date(2031, 1, 2, 5, 4, 5, 678_901_234, time.FixedZone("", 2*3600)),
	}
	h := cloudevents.Headers(e)
	require.Equal(t, headers(
		"ce_specversion", "1.0", "ce_id", "c-1", "ce_source", "/shop", "ce_type", "lotline.command.v1.Allocate",
		"ce_time", "2031-01-02T03:04:05.678Z", "content-type", "application/json"), h)

	got, err := cloudevents.Parse(h)
	require.NoError(t, err)
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	require.Equal(t, e, got)
}

func TestAbsentAttributesHaveNoHeader(t *testing.T) {
	require.Equal(t, headers("ce_specversion", "1.0", "ce_type", "T"),
		cloudevents.Headers(cloudevents.Envelope{Type: "T"}))
}

func TestParseAccepts(t *testing.T) {
	noon := time.Date(2031, 1, 2, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		headers []kgo.RecordHeader
		want    cloudevents.Envelope
	}{
		"only a type":             {headers("ce_type", "T"), cloudevents.Envelope{Type: "T"}},
		"the last of duplicates":  {headers("ce_type", "T", "ce_id", "a", "ce_id", "b"), cloudevents.Envelope{Type: "T", ID: "b"}},
		"headers of others":       {headers("ce_type", "T", "traceparent", "\xff\x00", "", ""), cloudevents.Envelope{Type: "T"}},
		"an attribute of 255":     {headers("ce_type", "T", "ce_id", strings.Repeat("é", 127)+"x"), cloudevents.Envelope{Type: "T", ID: strings.Repeat("é", 127) + "x"}},
		"a time with an offset":   {headers("ce_type", "T", "ce_time", "2031-01-02T14:00:00+02:00"), cloudevents.Envelope{Type: "T", Time: noon}},
		"a time that is no time":  {headers("ce_type", "T", "ce_time", "tomorrow"), cloudevents.Envelope{Type: "T"}},
		"names in another case":   {headers("ce_type", "T", "CE_ID", "a"), cloudevents.Envelope{Type: "T"}},
		"an empty id and source":  {headers("ce_type", "T", "ce_id", "", "ce_source", ""), cloudevents.Envelope{Type: "T"}},
		"the version it speaks":   {headers("ce_specversion", "1.0", "ce_type", "T"), cloudevents.Envelope{Type: "T"}},
		"content type parameters": {headers("ce_type", "T", "content-type", "application/json; charset=utf-8"), cloudevents.Envelope{Type: "T", ContentType: "application/json; charset=utf-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := cloudevents.Parse(c.headers)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestParseRefusesInOneSentence(t *testing.T) {
	for name, c := range map[string]struct {
		headers []kgo.RecordHeader
		want    string
	}{
		"no headers":          {nil, "the header ce_type is missing, which names the type of the message"},
		"an empty type":       {headers("ce_type", ""), "the header ce_type is missing, which names the type of the message"},
		"another version":     {headers("ce_specversion", "0.3", "ce_type", "T"), `the header ce_specversion is "0.3", and only "1.0" is understood`},
		"no version in it":    {headers("ce_specversion", "", "ce_type", "T"), `the header ce_specversion is "", and only "1.0" is understood`},
		"a long id":           {headers("ce_type", "T", "ce_id", strings.Repeat("x", 256)), "the header ce_id is 256 bytes long, more than 255"},
		"a megabyte of type":  {headers("ce_type", strings.Repeat("x", 1<<20)), "the header ce_type is 1048576 bytes long, more than 255"},
		"bytes as source":     {headers("ce_type", "T", "ce_source", "/\xff"), "the header ce_source is not valid UTF-8"},
		"a surrogate half":    {headers("ce_type", "T", "ce_id", "\xed\xa0\x80"), "the header ce_id is not valid UTF-8"},
		"a line feed":         {headers("ce_type", "T", "ce_id", "a\nb"), "the header ce_id has a control character"},
		"a zero byte":         {headers("ce_type", "T", "ce_source", "a\x00"), "the header ce_source has a control character"},
		"a C1 control":        {headers("ce_type", "T", "ce_id", "a\u0085"), "the header ce_id has a control character"},
		"a hidden first id":   {headers("ce_type", "T", "ce_id", "\x00", "ce_id", "b"), "the header ce_id has a control character"},
		"bytes as media type": {headers("ce_type", "T", "content-type", "\x80"), "the header content-type is not valid UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := cloudevents.Parse(c.headers)
			require.EqualError(t, err, c.want)
			require.Zero(t, got)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("ce_type", []byte("T"), "ce_time", []byte("2031-01-02T14:00:00Z"))
	f.Add("ce_id", []byte("\xff"), "ce_source", []byte("\x00"))
	f.Fuzz(func(t *testing.T, k1 string, v1 []byte, k2 string, v2 []byte) {
		e, err := cloudevents.Parse([]kgo.RecordHeader{{Key: k1, Value: v1}, {Key: k2, Value: v2}})
		if err != nil {
			return
		}
		e.Time = e.Time.Truncate(time.Millisecond)
		if year := e.Time.Year(); year < 1 || year > 9999 {
			t.Skip("RFC 3339 has four digits for the year")
		}
		again, err := cloudevents.Parse(cloudevents.Headers(e))
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}
