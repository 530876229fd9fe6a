//go:build integration

package allocator_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/telemetry/telemetrytest"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator"
)

// The crash happens to commands with a trace context, without and with one that is none. Published from the outbox, their
// events have the headers that the first life would have given them: the command's context as it came.
func TestTraceContextsSurviveTheCrash(t *testing.T) {
	const parent, state = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "congo=t61rcWkgMzE"
	b := onKfake(t)
	commands := b.orders("CHAIR", 3)
	with := func(i int, pairs ...string) {
		for ; len(pairs) > 0; pairs = pairs[2:] {
			commands[i].Headers = append(commands[i].Headers, kgo.RecordHeader{Key: pairs[0], Value: []byte(pairs[1])})
		}
	}
	with(1, "traceparent", parent, "tracestate", state)
	with(2, "traceparent", strings.Replace(parent, "-01", "-00", 1))
	with(3, "traceparent", "00-"+strings.Repeat("0", 1<<10), "tracestate", state)
	b.send(commands...)

	p := newProxy(t, b.config.PostgresURL)
	blocked, unblock := b.blockEndTxn()
	stop := b.start(sudden, func(c *allocator.Config) { c.PostgresURL = p.url })
	<-blocked
	require.Equal(t, 1, p.seen(), "one commit holds the whole poll")
	stop()
	unblock()
	b.start(small)

	contexts := make(map[string][2]string) // of events, by command
	for _, r := range b.records(b.topics.Events.Name, 4) {
		envelope, err := cloudevents.Parse(r.Headers)
		require.NoError(t, err)
		e, err := schemas.DecodeEvent(envelope.Type, envelope.ContentType, r.Value)
		require.NoError(t, err)
		contexts[e.CommandID] = [2]string{headerOf(r, "traceparent"), headerOf(r, "tracestate")}
	}
	id := func(i int) string { return headerOf(commands[i], cloudevents.HeaderID) }
	require.Equal(t, map[string][2]string{
		id(0): {}, id(1): {parent, state}, id(2): {strings.Replace(parent, "-01", "-00", 1), ""}, id(3): {},
	}, contexts)
}

// What was decided as protobuf is published as protobuf by a recovery, though the next life writes JSON, and the other
// way round.
func TestContentTypesSurviveTheCrash(t *testing.T) {
	for decided, next := range map[schemas.Encoding]schemas.Encoding{schemas.Protobuf: schemas.JSON, schemas.JSON: schemas.Protobuf} {
		t.Run(decided.String(), func(t *testing.T) {
			b := onKfake(t)
			b.send(b.orders("CHAIR", 5)...)
			blocked, unblock := b.blockEndTxn()
			stop := b.start(sudden, func(c *allocator.Config) { c.EventContentType = decided })
			<-blocked
			stop()
			unblock()
			b.start(small, func(c *allocator.Config) { c.EventContentType = next })
			b.records(b.topics.Events.Name, 6)
			b.send(b.command("later", allocate("later", "CHAIR", 1)))
			b.check(7)
			for _, r := range b.records(b.topics.Events.Name, 7) {
				envelope, e, err := cloudevents.Decode(r.Headers, r.Value, schemas.DecodeEvent)
				require.NoError(t, err)
				want := decided
				if e.CommandID == "later" {
					want = next
				}
				require.Equal(t, want.ContentType(), envelope.ContentType, e.CommandID)
			}
		})
	}
}

// The life that decided a traced command dies before it publishes. Its span, and that of the transaction that came to
// nothing, say so; those of the life that publishes say that the events were waiting in the outbox.
func TestTracesOfARecovery(t *testing.T) {
	const traceID, sender = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	receiver := telemetrytest.Start(t)
	b := onKfake(t)
	commands := b.orders("CHAIR", 3)
	commands[2].Headers = append(commands[2].Headers, kgo.RecordHeader{Key: "traceparent", Value: []byte("00-" + traceID + "-" + sender + "-01")})
	b.send(commands...)

	blocked, unblock := b.blockEndTxn()
	traced := func(c *allocator.Config) { c.Telemetry.Endpoint = receiver.URL }
	stop := b.start(sudden, traced)
	<-blocked
	stop()
	unblock()
	stop = b.start(small, traced)
	b.check(4)
	stop()

	byName := make(map[string][]telemetrytest.Span)
	for _, s := range receiver.Spans() {
		require.Equal(t, traceID, s.Trace, "only one command is traced")
		byName[s.Name] = append(byName[s.Name], s)
	}
	// Either life may drop polls because its group is not quiet yet.
	lives := byName["process "+b.topics.Commands.Name]
	require.GreaterOrEqual(t, len(lives), 2)
	last := lives[len(lives)-1]
	for _, life := range lives[:len(lives)-1] {
		require.Equal(t, sender, life.Parent)
		require.Equal(t, []string{"polled"}, life.Events)
		require.Contains(t, life.Error, "polled again")
	}
	require.Equal(t, sender, last.Parent)
	require.Equal(t, []string{"polled", "recovered from the outbox"}, last.Events)
	require.Empty(t, last.Error)
	sent := byName["send "+b.topics.Events.Name]
	require.Len(t, sent, 2)
	require.NotEmpty(t, sent[0].Error)
	require.Empty(t, sent[1].Error)
	require.Equal(t, last.ID, sent[1].Parent)
	decided := byName["Postgres transaction"]
	require.Len(t, decided, 1, "the second life decides nothing")
	for _, apply := range byName["apply"] {
		if apply.ID == decided[0].Parent {
			require.Equal(t, sent[0].Parent, apply.Parent, "one life decided and did not publish")
			require.NotEqual(t, last.ID, apply.Parent)
			return
		}
	}
	t.Error("the transaction's span hangs on nothing")
}
