package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/deadletters"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/schemas"
)

const (
	lettersShown    = 200 // the newest
	lettersAnswered = 500 // at once
	reasonsShown    = 8
	lettersWait     = 10 * time.Second // for reading the topic
	answerWait      = 30 * time.Second // for answering
	valueShown      = 2000             // bytes
	headerShown     = 500              // bytes
	headersShown    = 40
	whyBytesMax     = 2000
	answerBytesMax  = 64 << 10
)

// header is one of a record, cut short.
type header struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// letter is a deadletters.Letter as an answer.
type letter struct {
	Place      deadletters.Place  `json:"place"`
	Status     deadletters.Status `json:"status"`
	Time       time.Time          `json:"time"`
	Reason     string             `json:"reason"`
	Topic      string             `json:"topic"`
	Partition  int32              `json:"partition"`
	Offset     int64              `json:"offset"`
	Key        string             `json:"key"`
	Headers    []header           `json:"headers"`
	Value      string             `json:"value"`
	Bytes      int                `json:"bytes"`
	Shown      int                `json:"shown"`
	Unreadable string             `json:"unreadable,omitempty"` // why this version cannot read it either
}

// shown is what can be shown of a stranger's bytes, up to so many of them.
func shown(b []byte, bytesMax int) string {
	return strings.ToValidUTF8(string(b[:min(len(b), bytesMax)]), "\uFFFD")
}

func newLetter(l *deadletters.Letter) letter {
	answer := letter{
		Place: l.Place, Status: l.Status, Time: l.Time, Reason: l.Reason, Topic: l.Topic, Partition: l.Partition, Offset: l.Offset,
		Key: shown(l.Key, headerShown), Headers: []header{}, Value: shown(l.Value, valueShown), Bytes: len(l.Value), Shown: min(len(l.Value), valueShown),
	}
	for _, h := range l.Headers[:min(len(l.Headers), headersShown)] {
		answer.Headers = append(answer.Headers, header{shown([]byte(h.Key), headerShown), shown(h.Value, headerShown)})
	}
	if err := unreadable(l); err != nil {
		answer.Unreadable = err.Error()
	}
	return answer
}

// unreadable says why this version cannot read a command either, or returns nil.
func unreadable(l *deadletters.Letter) error {
	_, _, err := cloudevents.Decode(l.Headers, l.Value, schemas.DecodeCommand)
	return err
}

// reasonCount is how many dead letters have a reason.
type reasonCount struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

func (c *Console) deadLetters() deadletters.Topic {
	return deadletters.Topic{Name: c.Topics.DeadLetters.Name, Commands: c.Topics.Commands.Name, AnswersID: c.Topics.AnswersID, Opts: c.Kafka}
}

// reading waits for its turn, since reading the whole topic is work, and bounds how long it may take.
func (c *Console) reading(ctx context.Context, wait time.Duration) (context.Context, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	select {
	case c.letters <- struct{}{}:
		return ctx, func() { <-c.letters; cancel() }, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, fault{http.StatusServiceUnavailable, "The dead letters are being read for others; try again"}
	}
}

// listLetters answers GET /console/dead-letters?reason=…&all=1: the newest, newest first, and how many have which reason.
func (c *Console) listLetters(r *http.Request) (any, error) {
	filter := deadletters.Filter{Reason: r.URL.Query().Get("reason"), All: r.URL.Query().Get("all") == "1"}
	ctx, release, err := c.reading(r.Context(), lettersWait)
	if err != nil {
		return nil, err
	}
	defer release()
	letters, count, byReason := []letter{}, 0, map[string]int{}
	err = c.deadLetters().Walk(ctx, filter, func(l *deadletters.Letter) error {
		count++
		if _, known := byReason[l.Reason]; known || len(byReason) < 10*reasonsShown {
			byReason[l.Reason]++
		}
		if len(letters) == lettersShown {
			letters = letters[1:]
		}
		letters = append(letters, newLetter(l))
		return nil
	}, func(deadletters.Mark) error { return nil })
	if err != nil {
		return nil, c.lettersFailed(err)
	}
	slices.Reverse(letters)
	reasons := []reasonCount{}
	for _, reason := range slices.SortedFunc(maps.Keys(byReason), func(a, b string) int {
		if byReason[a] != byReason[b] {
			return byReason[b] - byReason[a]
		}
		return strings.Compare(a, b)
	}) {
		if len(reasons) < reasonsShown {
			reasons = append(reasons, reasonCount{reason, byReason[reason]})
		}
	}
	return map[string]any{"letters": letters, "count": count, "more": count > len(letters), "reasons": reasons}, nil
}

// lettersFailed says why the dead letters cannot be read or answered.
func (c *Console) lettersFailed(err error) error {
	switch {
	case errors.Is(err, deadletters.ErrMoved):
		return fault{http.StatusConflict, "Somebody answered some of them meanwhile, or they are not those that were shown: look again"}
	case errors.As(err, new(*deadletters.UnanswerableError)):
		return fault{http.StatusUnprocessableEntity, err.Error()}
	}
	err = kafkaclient.Explain(err)
	c.warn(err)
	if kafkaclient.Refused(err) {
		return fault{http.StatusForbidden, err.Error()}
	}
	return fault{http.StatusServiceUnavailable, "The dead letters cannot be reached; try again"}
}

// answerRequest is what a person wants done with dead letters.
type answerRequest struct {
	Action string              `json:"action"` // replay or discard
	Places []deadletters.Place `json:"places"`
	Token  string              `json:"token"` // of what was shown
	Why    string              `json:"why"`
}

func (a *answerRequest) status() deadletters.Status {
	if a.Action == "discard" {
		return deadletters.Discarded
	}
	return deadletters.Replayed
}

func readAnswer(r *http.Request) (*answerRequest, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, answerBytesMax+1))
	if err != nil || len(body) > answerBytesMax {
		return nil, fault{http.StatusRequestEntityTooLarge, "The body has more than " + strconv.Itoa(answerBytesMax) + " bytes, or could not be read to its end"}
	}
	a := new(answerRequest)
	switch err := json.Unmarshal(body, a, json.RejectUnknownMembers(true)); {
	case err != nil:
		return nil, fault{http.StatusBadRequest, "The body is not what this expects: " + err.Error()}
	case a.Action != "replay" && a.Action != "discard":
		return nil, fault{http.StatusBadRequest, "The action must be replay or discard"}
	case len(a.Places) == 0 || len(a.Places) > lettersAnswered:
		return nil, fault{http.StatusBadRequest, fmt.Sprintf("Name 1 to %d places", lettersAnswered)}
	case len(a.Why) > whyBytesMax:
		return nil, fault{http.StatusBadRequest, fmt.Sprintf("The reason is %d bytes; at most %d are accepted", len(a.Why), whyBytesMax)}
	}
	return a, nil
}

// planLetters answers POST /console/dead-letters/plan {action, places}: what would be done, and the token that does it.
func (c *Console) planLetters(r *http.Request) (any, error) {
	a, err := readAnswer(r)
	if err != nil {
		return nil, err
	}
	ctx, release, err := c.reading(r.Context(), lettersWait)
	if err != nil {
		return nil, err
	}
	defer release()
	cannot := 0
	plan, err := c.deadLetters().Plan(ctx, deadletters.Filter{Places: a.Places}, a.status(), len(a.Places), func(l *deadletters.Letter) error {
		if unreadable(l) != nil {
			cannot++
		}
		return nil
	})
	if err != nil {
		return nil, c.lettersFailed(err)
	}
	if plan.Count == 0 {
		return nil, fault{http.StatusConflict, "None of these is open any more: somebody answered them"}
	}
	return map[string]any{"count": plan.Count, "unreadable": cannot, "token": plan.Token(), "topic": c.Topics.Commands.Name}, nil
}

// answerLetters answers POST /console/dead-letters/answer {action, places, token, why}: it does what was planned, once,
// whoever asks how often.
func (c *Console) answerLetters(r *http.Request) (any, error) {
	a, err := readAnswer(r)
	if err != nil {
		return nil, err
	}
	if a.status() == deadletters.Discarded && strings.TrimSpace(a.Why) == "" {
		return nil, fault{http.StatusBadRequest, "Say why they are discarded"}
	}
	// What was begun is ended, also if the page is closed meanwhile.
	ctx, release, err := c.reading(context.WithoutCancel(r.Context()), answerWait)
	if err != nil {
		return nil, err
	}
	defer release()
	done, err := c.deadLetters().Answer(ctx, deadletters.Filter{Places: a.Places}, deadletters.Mark{Status: a.status(), By: "console", Why: a.Why}, len(a.Places), a.Token)
	if err != nil {
		return nil, c.lettersFailed(err)
	}
	c.Log.Info("dead letters were answered from the console", "action", a.Action, "count", done)
	return map[string]any{"done": done}, nil
}
