package console

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lotline/lotline/topics"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// withLetters returns a console on a Kafka of its own that has dead letters with these values.
func withLetters(t *testing.T, values ...string) (c *Console, commands func() int64) {
	set := topics.Declared("lotline")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, set.Commands.Name, set.Events.Name), kfake.SeedTopics(1, set.DeadLetters.Name))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	for _, value := range values {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: set.DeadLetters.Name, Value: []byte(value), Headers: []kgo.RecordHeader{
			{Key: "ce_type", Value: []byte("lotline.command.v1.Deallocate")},
			{Key: "dlq_reason", Value: []byte("why " + value)},
			{Key: "dlq_topic", Value: []byte(set.Commands.Name)},
			{Key: "dlq_partition", Value: []byte("1")},
			{Key: "dlq_offset", Value: []byte("7")},
			{Key: "dlq_timestamp", Value: []byte("2031-01-02T03:04:05.000Z")},
		}}).FirstErr())
	}
	return newConsole(&library{}, kgo.SeedBrokers(cluster.ListenAddrs()...)), func() int64 {
		ends, err := kadm.NewClient(client).ListCommittedOffsets(t.Context(), set.Commands.Name)
		require.NoError(t, err)
		end, _ := ends.Lookup(set.Commands.Name, 1)
		return end.Offset
	}
}

// post sends a body as the page does, less the changes, and returns the answer.
func post(c *Console, path, body string, changes ...func(*http.Request)) (status int, answer map[string]any) {
	request := httptest.NewRequest(http.MethodPost, "http://gateway"+path, strings.NewReader(body))
	request.Header.Set("X-Lotline-Console", "1")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, change := range changes {
		change(request)
	}
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, request)
	_ = json.Unmarshal(w.Body.Bytes(), &answer)
	return w.Code, answer
}

const readable = `{"orderid":"o","sku":"s"}`

func TestDeadLettersAreListedNewestFirst(t *testing.T) {
	c, _ := withLetters(t, "\xff\x00 no text", readable, strings.Repeat("x", 3000), readable)
	status, body, _ := get(c, "/console/dead-letters")
	require.Equal(t, 200, status, body)
	var list struct {
		Letters []letter
		Count   int
		More    bool
		Reasons []reasonCount
	}
	require.NoError(t, json.Unmarshal([]byte(body), &list))
	require.Equal(t, 4, list.Count)
	require.False(t, list.More)
	require.Equal(t, readable, list.Letters[0].Value)
	require.Empty(t, list.Letters[0].Unreadable)
	require.Equal(t, []int{3000, valueShown}, []int{list.Letters[1].Bytes, len(list.Letters[1].Value)})
	require.NotEmpty(t, list.Letters[1].Unreadable)
	require.Equal(t, "\uFFFD\x00 no text", list.Letters[3].Value)
	require.Equal(t, reasonCount{"why " + readable, 2}, list.Reasons[0])
	_, body, _ = get(c, "/console/dead-letters?reason=ORDERID")
	require.Contains(t, body, `"count":2`)
}

func TestAReplayIsDoneOnceByItsTokenOnly(t *testing.T) {
	c, commands := withLetters(t, readable, "no JSON")
	const both = `"action":"replay","places":["0@0","0@1"]`
	status, plan := post(c, "/console/dead-letters/plan", "{"+both+"}")
	require.Equal(t, 200, status, plan)
	require.EqualValues(t, 2, plan["count"])
	require.EqualValues(t, 1, plan["unreadable"])
	require.Zero(t, commands(), "nothing was done yet")

	status, answer := post(c, "/console/dead-letters/answer", `{`+both+`,"token":"another"}`)
	require.Equal(t, http.StatusConflict, status, answer)
	status, answer = post(c, "/console/dead-letters/answer", `{"action":"discard","places":["0@0","0@1"],"why":"x","token":"`+plan["token"].(string)+`"}`)
	require.Equal(t, http.StatusConflict, status, "the token is for replaying: %v", answer)
	require.Zero(t, commands())

	body := `{` + both + `,"token":"` + plan["token"].(string) + `"}`
	status, answer = post(c, "/console/dead-letters/answer", body)
	require.Equal(t, 200, status, answer)
	require.EqualValues(t, 2, answer["done"])
	after := commands()
	require.EqualValues(t, 3, after, "two commands and the transaction's mark")
	for range 3 {
		status, answer = post(c, "/console/dead-letters/answer", body)
		require.Equal(t, http.StatusConflict, status, answer)
	}
	status, answer = post(c, "/console/dead-letters/plan", "{"+both+"}")
	require.Equal(t, http.StatusConflict, status, answer)
	require.Equal(t, after, commands())
}

func TestOnlyThePageMayAnswer(t *testing.T) {
	c, commands := withLetters(t, readable)
	_, plan := post(c, "/console/dead-letters/plan", `{"action":"replay","places":["0@0"]}`)
	body := `{"action":"replay","places":["0@0"],"token":"` + plan["token"].(string) + `"}`
	for name, change := range map[string]func(*http.Request){
		"a form elsewhere":         func(r *http.Request) { r.Header.Del("X-Lotline-Console") },
		"another site":             func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another port":             func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"an old browser elsewhere": func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "http://evil") },
	} {
		status, answer := post(c, "/console/dead-letters/answer", body, change)
		require.Equal(t, http.StatusForbidden, status, name)
		require.Equal(t, "This is for the console's own page", answer["detail"])
	}
	require.Zero(t, commands())
	status, _ := post(c, "/console/dead-letters/answer", body)
	require.Equal(t, 200, status)
}

func TestBadAnswersToDeadLetters(t *testing.T) {
	c, commands := withLetters(t, readable)
	for body, want := range map[string]string{
		"":                                     "not what this expects",
		`{"action":"delete","places":["0@0"]}`: "replay or discard",
		`{"action":"replay","places":[]}`:      "Name 1 to 500",
		`{"action":"replay","places":["x"]}`:   "is not the place of a dead letter",
		`{"action":"replay","places":["0@0"],"all":1}`:                                           "not what this expects",
		`{"action":"discard","places":["0@0"],"token":"t"}`:                                      "Say why",
		`{"action":"discard","places":["0@0"],"why":"` + strings.Repeat("w", 2001) + `"}`:        "at most 2000",
		`{"action":"replay","places":[` + strings.Repeat(`"0@0",`, answerBytesMax/6) + `"0@0"]}`: "more than 65536 bytes",
	} {
		status, answer := post(c, "/console/dead-letters/answer", body)
		require.GreaterOrEqual(t, status, 400, body)
		require.Less(t, status, 500, body)
		require.Contains(t, answer["detail"], want)
	}
	require.Zero(t, commands())
}

func TestDeadLettersWithoutKafka(t *testing.T) {
	c, _ := withLetters(t)
	c.Kafka = []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1"), kgo.RequestRetries(0)}
	status, body, _ := get(c, "/console/dead-letters")
	require.Equal(t, 503, status)
	require.Contains(t, body, "The dead letters cannot be reached")
}
