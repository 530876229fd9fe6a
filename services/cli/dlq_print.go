package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/deadletters"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/cli/internal/tail"
)

// unreadable says why a command still cannot be read by this version, or returns nil if it can.
func unreadable(l *deadletters.Letter) error {
	_, _, err := cloudevents.Decode(l.Headers, l.Value, schemas.DecodeCommand)
	return err
}

// letterLine is a dead letter in JSON.
type letterLine struct {
	Place     deadletters.Place  `json:"place"`
	Status    deadletters.Status `json:"status"`
	Time      string             `json:"time"`
	Reason    string             `json:"reason"`
	Topic     string             `json:"origin_topic"`
	Partition int32              `json:"origin_partition"`
	Offset    int64              `json:"origin_offset"`
	Received  string             `json:"received"`
	Key       *string            `json:"key"`
	Headers   map[string]string  `json:"headers"`
	Raw       *string            `json:"raw,omitempty"`
	RawBase64 []byte             `json:"raw_base64,omitempty"` // if it is not text
}

func (e *env) printLetter(l *deadletters.Letter, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprintf(e.stdout, "%s  %s  %-9s  from %s  key %s  %s\n", l.Place, l.Time.Format(time.RFC3339), l.Status,
			l.Origin(), shown(string(l.Key), 40), plain(l.Reason))
		return err
	}
	line := letterLine{
		Place: l.Place, Status: l.Status, Time: cloudevents.FormatTime(l.Time), Reason: l.Reason, Topic: l.Topic, Partition: l.Partition, Offset: l.Offset,
		Received: l.Received, Headers: map[string]string{},
	}
	if l.Key != nil {
		key := string(l.Key)
		line.Key = &key
	}
	for _, h := range l.Headers {
		line.Headers[h.Key] = string(h.Value)
	}
	if utf8.Valid(l.Value) {
		value := string(l.Value)
		line.Raw = &value
	} else {
		line.RawBase64 = l.Value
	}
	return tail.WriteJSON(e.stdout, line)
}

type markLine struct {
	Place  deadletters.Place  `json:"place"`
	Mark   deadletters.Status `json:"mark"`
	Of     deadletters.Place  `json:"of"`
	By     string             `json:"by"`
	Why    string             `json:"why"`
	Marked string             `json:"time"`
}

func (e *env) printMark(m deadletters.Mark, asJSON bool) error {
	if asJSON {
		return tail.WriteJSON(e.stdout, markLine{m.Place, m.Status, m.Of, m.By, m.Why, cloudevents.FormatTime(m.Time)})
	}
	_, err := fmt.Fprintf(e.stdout, "%s  %s  %s was %s by %s: %s\n", m.Place, m.Time.Format(time.RFC3339), m.Of, m.Status, shown(m.By, 40), shown(m.Why, 200))
	return err
}

// printWhole prints what `list` prints, and each header and the value, in a
// form that no terminal obeys.
func (e *env) printWhole(l *deadletters.Letter) error {
	if err := e.printLetter(l, false); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "  received  %s, %s partition %d offset %d\n", plain(l.Received), plain(l.Topic), l.Partition, l.Offset)
	for _, h := range l.Headers {
		fmt.Fprintf(e.stdout, "  header    %s: %s\n", plain(h.Key), shown(string(h.Value), 1000))
	}
	fmt.Fprintf(e.stdout, "  value     %d bytes: %s\n", len(l.Value), shown(string(l.Value), 4000))
	if err := unreadable(l); err != nil {
		fmt.Fprintf(e.stdout, "  replayed  it would be a dead letter again: %s\n", plain(err.Error()))
	} else if l.Status == deadletters.Open {
		fmt.Fprintln(e.stdout, "  replayed  this version can read it")
	}
	return nil
}

// shown quotes what a stranger wrote, up to so many bytes of it.
func shown(s string, bytesMax int) string {
	if len(s) <= bytesMax {
		return strconv.QuoteToGraphic(s)
	}
	return fmt.Sprintf("%s and %d bytes more", strconv.QuoteToGraphic(s[:bytesMax]), len(s)-bytesMax)
}

// plain is s without quotes around it, but with nothing that a terminal obeys.
func plain(s string) string {
	quoted := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
