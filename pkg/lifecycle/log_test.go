package lifecycle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
)

// logged returns the one line that f logs, and its fields.
func logged(t *testing.T, f func(*slog.Logger)) (line string, fields map[string]any) {
	t.Helper()
	var out bytes.Buffer
	f(NewLog(&out, slog.LevelDebug))
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")), "one line")
	require.NoError(t, json.Unmarshal(out.Bytes(), &fields))
	return out.String(), fields
}

func TestSecretsAreNotLogged(t *testing.T) {
	const canary = "hunter2"
	values := map[string]any{
		"url":       "postgres://lotline:" + canary + "@db:5432/lotline",
		"unescaped": "cannot parse postgres://lotline:a@b/" + canary + "@db/lotline",
		"dsn":       "host=db user=lotline password=" + canary + " sslmode=verify-full",
		"quoted":    "host=db password='a " + canary + "'",
		"json":      `{"user":"lotline","password":"` + canary + `"}`,
		"header":    "Authorization: Bearer " + canary,
		"password":  canary,
		"sasl":      []byte(canary),
		"err":       fmt.Errorf("connect: %w", errors.New("clickhouse://u:"+canary+"@ch:9000")),
		"setting":   "LOTLINE_KAFKA_SASL_PASSWORD=" + canary,
		"config":    struct{ User, Password string }{"u", canary},
		"bytes":     []byte("password=" + canary),
		"a user@":   "postgres://lotline@tenant:" + canary + "@db/lotline",
		"in json":   `{"config":"{\"password\": \"` + canary + `\"}"}`,
		"escaped":   `{"password":"a\"` + canary + `"}`,
		"in both":   `{"config":"{\"password\":\"a\\\"` + canary + `\"}"}`,
		"backslash": `password="c:\` + canary + `\" next`,
		"its end":   `password: "` + canary + `\"`,
		"lines":     "password=\"a\\\n" + canary + `"`,
		"cut":       `{"password":"` + canary,
		"cut dsn":   `host=db password='` + canary + ` x`,
		"cut in":    `{\"token\":\"` + canary,
		"cut by us": `{"password":"` + canary + strings.Repeat("x", 2*logValueBytesMax) + `"}`,
		"api key":   "nobody has lotline_iVOEay2q02OG_tiBw9otL7mSiscPuT_WVkzY" + canary,
	}
	for name, value := range values {
		line, _ := logged(t, func(log *slog.Logger) { log.Warn("connecting", name, value) })
		require.NotContains(t, line, canary, name)
		require.Contains(t, line, redacted, name)
	}
	line, _ := logged(t, func(log *slog.Logger) {
		log.With("dsn", values["dsn"]).WithGroup("g").Info("reached "+values["url"].(string), slog.Group("h", "dsn", values["dsn"]))
	})
	require.NotContains(t, line, canary, "in the message, in groups and in what a logger carries")

	_, fields := logged(t, func(log *slog.Logger) {
		log.Info("partition moved", "addr", "db:5432", "partitions", []int32{1, 2}, "url", "http://a/b?c=d", "n", 3, "pause", 49*time.Millisecond+674*time.Nanosecond)
	})
	require.Equal(t, "db:5432", fields["addr"])
	require.Equal(t, []any{1.0, 2.0}, fields["partitions"])
	require.Equal(t, "49.001ms", fields["pause"], "no number whose unit one has to know")
	require.Equal(t, "http://a/b?c=d", fields["url"], "what is no secret stays")
	for _, plain := range []string{
		"user lotline_allocator may not read lotline_read.order_lines", "http://user@db:5432/x and more",
		"postgres://u@db1:5432,db2:5432/x?application_name=a@b", "a topic named lotline_" + strings.Repeat("commands-", 6),
	} {
		_, fields = logged(t, func(log *slog.Logger) { log.Info(plain) })
		require.Equal(t, plain, fields["msg"])
	}
}

func TestHostileValuesAreBoundedAndEscaped(t *testing.T) {
	huge := strings.Repeat("é", 1<<19)
	for name, value := range map[string]any{
		"string": huge, "bytes": []byte(huge), "error": errors.New(huge), "strings": []string{huge}, "map": map[string]string{"k": huge},
	} {
		line, _ := logged(t, func(log *slog.Logger) { log.Warn("a record", name, value) })
		require.Less(t, len(line), 2*logValueBytesMax, name)
	}
	line, _ := logged(t, func(log *slog.Logger) { log.Warn(huge) })
	require.Less(t, len(line), 2*logValueBytesMax, "the message too")

	line, fields := logged(t, func(log *slog.Logger) {
		log.Warn("a record", "key", "a\n{\"level\":\"ERROR\"}\x1b[2J\x00\xff")
	})
	require.NotContains(t, strings.TrimSuffix(line, "\n"), "\n")
	require.NotContains(t, line, "\x1b")
	require.NotContains(t, line, "\x00")
	require.Equal(t, "a\n{\"level\":\"ERROR\"}\x1b[2J\x00\uFFFD", fields["key"])

	divided := strings.Repeat("x", logValueBytesMax-12) + " password=hunter2"
	line, _ = logged(t, func(log *slog.Logger) { log.Warn("a record", "key", divided) })
	require.NotContains(t, line, "hu", "a secret where the value is cut")
}

func TestLinesOfASampledTraceNameIt(t *testing.T) {
	span := trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled}
	within := func(c trace.SpanContextConfig) map[string]any {
		_, fields := logged(t, func(log *slog.Logger) {
			log.With("component", "x").WarnContext(trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(c)), "slow", "n", 1)
		})
		return fields
	}
	fields := within(span)
	require.Equal(t, "01020000000000000000000000000000", fields["trace_id"])
	require.Equal(t, "x", fields["component"])
	span.TraceFlags = 0
	require.NotContains(t, within(span), "trace_id", "not sampled: there is nothing to be found")
	require.NotContains(t, within(trace.SpanContextConfig{}), "trace_id")
}
