package telemetry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func headers(pairs ...string) []kgo.RecordHeader {
	var h []kgo.RecordHeader
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return h
}

func TestContextsLeaveAsTheyCame(t *testing.T) {
	for name, h := range map[string][]kgo.RecordHeader{
		"sampled":           headers("traceparent", parent),
		"not sampled":       headers("traceparent", strings.TrimSuffix(parent, "1")+"0"),
		"unknown flags":     headers("traceparent", strings.TrimSuffix(parent, "01")+"ff"),
		"state":             headers("traceparent", parent, "tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
		"as long as may be": headers("traceparent", parent, "tracestate", strings.Repeat("x", 512)),
		"none":              nil,
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, h, FromRecord(append(headers("ce_type", "T"), h...)).AppendTo(nil))
		})
	}
	require.Equal(t, headers("traceparent", parent), FromRecord(headers("traceparent", "first", "traceparent", parent)).AppendTo(nil), "the last counts")
}

func TestHostileContextsAreIgnored(t *testing.T) {
	for name, value := range map[string]string{
		"empty":              "",
		"a megabyte":         strings.Repeat("0", 1<<20),
		"cut short":          parent[:54],
		"too long":           parent + "-",
		"another version":    "cc" + parent[2:],
		"the version ff":     "ff" + parent[2:],
		"upper case":         strings.ToUpper(parent),
		"no trace id":        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"no span id":         "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"other separators":   strings.ReplaceAll(parent, "-", "_"),
		"letters in the id":  strings.Replace(parent, "0af7", "0ag7", 1),
		"letters as flags":   parent[:53] + "0x",
		"bytes":              "\xff\x00" + parent[2:],
		"control characters": parent[:54] + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			require.Zero(t, FromRecord(headers("ce_type", "T", "traceparent", value, "tracestate", "a=b")))
		})
	}
	for name, state := range map[string]string{"too long": strings.Repeat("x", 513), "a line feed": "a=b\nc=d", "bytes": "a=\xff"} {
		t.Run("a state with "+name, func(t *testing.T) {
			require.Equal(t, headers("traceparent", parent), FromRecord(headers("traceparent", parent, "tracestate", state)).AppendTo(nil))
		})
	}
}

func TestReadingAContextAllocatesNothing(t *testing.T) {
	h := headers("ce_type", "T", "traceparent", parent, "tracestate", "a=b")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if FromRecord(h).TraceParent == nil {
			t.Error("not found")
		}
	}))
}

func TestSampled(t *testing.T) {
	for flags, want := range map[string]bool{"00": false, "01": true, "02": false, "03": true, "0a": false, "0b": true, "fe": false, "ff": true} {
		require.Equal(t, want, FromRecord(headers("traceparent", parent[:53]+flags)).Sampled(), flags)
	}
	require.False(t, Carried{}.Sampled())
}

func TestFromDocument(t *testing.T) {
	require.Zero(t, FromDocument("", "a=b"))
	require.Zero(t, FromDocument(parent+"x", "a=b"))
	require.Equal(t, Carried{TraceParent: []byte(parent), TraceState: []byte("a=b")}, FromDocument(parent, "a=b"))
	require.Equal(t, headers("traceparent", parent), FromDocument(parent, "a=\xff").AppendTo(nil))
}

func TestANewTraceIsSampledAndLikeNoOther(t *testing.T) {
	c := New()
	require.True(t, c.Sampled())
	require.Equal(t, c, FromRecord(c.AppendTo(nil)))
	require.Contains(t, string(c.TraceParent), "-"+c.TraceID()+"-")
	require.Len(t, c.TraceID(), 32)
	require.NotEqual(t, c.TraceID(), New().TraceID())
	require.Empty(t, Carried{}.TraceID())
}

func TestFromRequest(t *testing.T) {
	h := http.Header{}
	require.Zero(t, FromRequest(h))
	h.Set("Traceparent", parent)
	h.Set("Tracestate", "a=b")
	require.Equal(t, Carried{TraceParent: []byte(parent), TraceState: []byte("a=b")}, FromRequest(h))
	h.Set("Tracestate", strings.Repeat("x", 513))
	require.Equal(t, Carried{TraceParent: []byte(parent)}, FromRequest(h))
	h.Set("Traceparent", parent+"x")
	require.Zero(t, FromRequest(h))
}
