package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
)

// Names of the log's fields that every service uses, so that lines about one thing can be found together:
//
//	service, component             who speaks
//	topic, partition, offset       a record's place
//	sku, orderid, batchref         what a command is about
//	commandid, commandsource       which command
//	error, failures, outage, pause what went wrong, how often, for how long, and when it is tried again
//	trace_id                       of the sampled trace that the line belongs to

const (
	// logValueBytesMax is how much of one value a line shows: what a client sent may be as large as it likes.
	logValueBytesMax = 2048
	redacted         = "[redacted]"
)

var (
	// secretKey is the name of a field whose value is nobody's business.
	secretKey = regexp.MustCompile(`(?i)passw|secret|token|credential|authorization|sasl`)
	// userinfo is the password in a URL. Greedy: a password that was not escaped may have an @ itself.
	userinfo = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@]*):\S*@`)
	// userinfoAt is one behind a user with an @, as some hosted databases want them. Up to a slash: what follows may be a port.
	userinfoAt = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:]*):[^\s/]*@`)
	// apiKey is the text of one of our own, see pkg/apikeys.
	apiKey = regexp.MustCompile(`\blotline_[A-Za-z0-9_-]{43}([^A-Za-z0-9_-]|$)`)
	// assigned is a secret in a connection string, a setting or a header: password=x, password: 'x y', Bearer x,
	// also in JSON, and in JSON within JSON. Where a quote is not closed, as in what was cut, all that follows may be the secret.
	assigned = regexp.MustCompile(`(?i)((?:[a-z0-9_-]*passw(?:or)?d|[a-z0-9_-]*secret|[a-z0-9_-]*token)(?:\\*")?\s*[=:]\s*|\bBearer\s+|\bBasic\s+)(?:'[^']*'|"(?:[^"\\]|\\[\s\S])*"|"[^"]*"|\\+"[\s\S]*?\\+"(?:[\s,}\]]|$)|\\*['"][\s\S]*$|[^\s,;&'"]+)`)
)

// NewLog returns a log of JSON lines on w, from level on. Whatever it is given, a line holds no password and is bounded:
// secrets are taken out, and of a long value the beginning and its length are shown. Control characters are escaped.
func NewLog(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(traced{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: redact})})
}

// traced adds to lines that concern a sampled command where its trace is found.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, line slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		line = line.Clone()
		line.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	return h.Handler.Handle(ctx, line)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }

func redact(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return a
	}
	if secretKey.MatchString(a.Key) {
		return slog.String(a.Key, redacted)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, clean(a.Value.String()))
	case slog.KindAny:
		return slog.Attr{Key: a.Key, Value: cleanAny(a.Value.Any())}
	case slog.KindDuration: // which would be a number of nanoseconds
		return slog.String(a.Key, a.Value.Duration().Round(time.Microsecond).String())
	default: // numbers and times; the members of a group come one by one
		return a
	}
}

// cleanAny keeps what has no text (partitions, counts) as it is.
func cleanAny(v any) slog.Value {
	switch v := v.(type) {
	case []byte: // would be base64
		return slog.StringValue(clean(string(v[:min(len(v), 2*logValueBytesMax)])))
	case error:
		return slog.StringValue(clean(v.Error()))
	case fmt.Stringer:
		return slog.StringValue(clean(v.String()))
	case []int32, []int64, []int, nil:
		return slog.AnyValue(v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return slog.StringValue(clean(fmt.Sprintf("%+v", v)))
	}
	return slog.StringValue(clean(string(text)))
}

// clean takes secrets out of s, makes it printable and bounds it.
func clean(s string) string {
	size := len(s)
	// Secrets first, in more than is shown: one that the cut divides must not be half shown.
	if size > 2*logValueBytesMax {
		s = s[:2*logValueBytesMax]
	}
	s = userinfo.ReplaceAllString(s, "$1:"+redacted+"@")
	s = userinfoAt.ReplaceAllString(s, "$1:"+redacted+"@")
	s = apiKey.ReplaceAllString(s, redacted+"$1")
	s = assigned.ReplaceAllString(s, "${1}"+redacted)
	s = strings.ToValidUTF8(s, "\uFFFD")
	if size <= logValueBytesMax {
		return s
	}
	s = s[:min(len(s), logValueBytesMax)]
	for len(s) > 0 {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n > 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return fmt.Sprintf("%s… (%d bytes)", s, size)
}
