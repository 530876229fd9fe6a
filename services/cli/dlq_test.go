package cli_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// dlqShell has a topic of dead letters as the allocator writes them.
type dlqShell struct {
	shell
	fake   *kfake.Cluster
	client *kgo.Client
}

func newDLQShell(t *testing.T) *dlqShell {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	t.Setenv("LOTLINE_KAFKA_BROKERS", strings.Join(fake.ListenAddrs(), ","))
	t.Setenv("LOTLINE_KAFKA_REPLICATION", "1")
	s := &dlqShell{shell: shell{t, fake.ListenAddrs()}, fake: fake}
	s.ok("", "topics", "apply")
	s.client, err = kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ConsumeTopics("lotline.commands"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	require.NoError(t, err)
	t.Cleanup(s.client.Close)
	return s
}

// letter adds a dead letter that came from lotline.commands with these headers.
func (s *dlqShell) letter(key, value, partition, offset, reason string, headers ...kgo.RecordHeader) {
	s.t.Helper()
	for _, h := range [][2]string{
		{"dlq_reason", reason},
		{"dlq_topic", "lotline.commands"},
		{"dlq_partition", partition},
		{"dlq_offset", offset},
		{"dlq_timestamp", "2031-01-02T03:04:05Z"},
	} {
		headers = append(headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	r := &kgo.Record{Topic: "lotline.commands.dlq", Key: []byte(key), Value: []byte(value), Headers: headers}
	require.NoError(s.t, s.client.ProduceSync(s.t.Context(), r).FirstErr())
}

// commands reads n records of the commands topic.
func (s *dlqShell) commands(n int) (records []*kgo.Record) {
	s.t.Helper()
	for len(records) < n {
		fetches := s.client.PollFetches(s.t.Context())
		require.NoError(s.t, fetches.Err())
		records = append(records, fetches.Records()...)
	}
	require.Len(s.t, records, n)
	return records
}

func (s *dlqShell) fails(says string, args ...string) {
	s.t.Helper()
	code, stdout, stderr := run(s.t, "", args...)
	require.NotZero(s.t, code, stdout)
	require.Contains(s.t, stderr, says)
}

var confirm = regexp.MustCompile(`--confirm=([0-9a-f]+)\n$`)

// token takes the token out of what a dry run printed.
func (s *dlqShell) token(printed string) string {
	s.t.Helper()
	found := confirm.FindStringSubmatch(printed)
	require.NotNil(s.t, found, printed)
	return "--confirm=" + found[1]
}

func header(key, value string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: key, Value: []byte(value)}
}

func TestDeadLettersAreListedByWhatIsAskedFor(t *testing.T) {
	s := newDLQShell(t)
	require.Equal(t, "no dead letters\n", s.ok("", "dlq", "list"))
	s.letter("LAMP", `{"qty":`, "3", "120", "the JSON ends early", header("ce_type", "lotline.command.v1.Allocate"), header("dlq_reason", "of the sender"))
	s.letter("CHAIR", "\xff\x9b", "0", "7", "is not valid UTF-8")
	s.letter("LAMP", "{}", "3", "121", "sku is missing")
	for args, offsets := range map[string]string{
		"": "0 1 2", "--sku=LAMP": "0 2", "--key=CHAIR": "1", "--reason=utf-8": "1", "--origin-partition=3 --origin-offset=121": "2",
		"--since=1h": "0 1 2", "--since=2999-01-01T00:00:00Z": "",
	} {
		var got []string
		for line := range strings.Lines(s.ok("", append([]string{"dlq", "list", "--json"}, strings.Fields(args)...)...)) {
			var l struct{ Place string }
			require.NoError(t, json.Unmarshal([]byte(line), &l))
			got = append(got, strings.TrimPrefix(l.Place, "0@"))
		}
		require.Equal(t, offsets, strings.Join(got, " "), args)
	}
	golden(t, "dlq_list.jsonl", s.ok("", "dlq", "list", "--json"))
	code, stdout, stderr := run(t, "", "dlq", "list", "-n1")
	require.Zero(t, code)
	require.Equal(t, 1, strings.Count(stdout, "\n"))
	require.Contains(t, stderr, "There are more than 1")
	shown := s.ok("", "dlq", "show", "1")
	require.NotContains(t, shown, "\x9b", "a terminal would obey it")
	require.Contains(t, shown, "it would be a dead letter again")
	require.Contains(t, s.ok("", "dlq", "show", "0"), `header    dlq_reason: "of the sender"`)
	s.letter("LAMP", "{}", "3", "122", `the type "Alocate" is not a known command`)
	require.Contains(t, s.ok("", "dlq", "list"), `the type "Alocate" is not a known command`)
	s.fails("no dead letter at 0@9", "dlq", "show", "9")
	s.fails("give an offset such as 17", "dlq", "show", "x")
	s.fails("neither an age", "dlq", "list", "--since=yesterday")
}

// What became of other letters is not asked for, and takes no room from what is.
func TestMarksAreThoseOfTheLettersThatAreListed(t *testing.T) {
	s := newDLQShell(t)
	for _, key := range []string{"LAMP", "CHAIR", "VASE"} {
		s.letter(key, "{}", "3", "121", "sku is missing")
	}
	s.ok("", "dlq", "discard", "--reason=missing", "--why=x", s.token(s.ok("", "dlq", "discard", "--reason=missing", "--why=x")))
	require.Equal(t, 6, strings.Count(s.ok("", "dlq", "list", "--all"), "\n"))
	listed := s.ok("", "dlq", "list", "--all", "--key=VASE", "-n2")
	require.Regexp(t, `^0@2 .* key "?VASE.*\n0@\d+ .* 0@2 was discarded by .*\n$`, listed)
	require.Equal(t, 1, strings.Count(s.ok("", "dlq", "show", "0@1"), "was discarded"))
}

// A replay is the same bytes, key and headers at the partition they came from, once; and it can be followed back
// however often it fails, without headers that add up.
func TestAReplayIsTheCommandAsItCameOnce(t *testing.T) {
	s := newDLQShell(t)
	headers := []kgo.RecordHeader{header("ce_id", "c-1"), header("ce_source", "/shop"), header("ce_type", "lotline.command.v1.Allocate"), header("x", "\xff")}
	s.letter("LAMP", `{"orderid":"o","sku":"LAMP","qty":1}`, "3", "120", "an older build could not read it", headers...)
	s.letter("LAMP", "{", "5", "9", "the JSON ends early", header("lotline_replayed_from", "lotline.commands.dlq/0@1"), header("lotline_origin", "lotline.commands/5@2"))

	s.fails("which dead letters?", "dlq", "replay")
	plan := s.ok("", "dlq", "replay", "0", "0@1")
	require.Contains(t, plan, "These 2 would go to lotline.commands again")
	require.Contains(t, plan, "cannot read 1 of them either")
	s.fails("not those that were shown", "dlq", "replay", "0", s.token(plan))
	s.fails("not those that were shown", "dlq", "discard", "0", "1", "--why=x", s.token(plan))
	require.Equal(t, "replayed 2 dead letters\n", s.ok("", "dlq", "replay", "0", "0@1", "--by=ann", "--why=mended", s.token(plan)))
	got := map[int32]*kgo.Record{}
	for _, r := range s.commands(2) {
		got[r.Partition] = r
	}
	require.Equal(t, "LAMP", string(got[3].Key))
	require.Equal(t, `{"orderid":"o","sku":"LAMP","qty":1}`, string(got[3].Value))
	require.Equal(t, append(headers, header("lotline_replayed_from", "lotline.commands.dlq/0@0"), header("lotline_origin", "lotline.commands/3@120")), got[3].Headers)
	require.Equal(t, []kgo.RecordHeader{header("lotline_replayed_from", "lotline.commands.dlq/0@1"), header("lotline_origin", "lotline.commands/5@2")}, got[5].Headers)

	s.fails("not those that were shown", "dlq", "replay", "0", "0@1", s.token(plan))
	s.fails("none of these is an open dead letter", "dlq", "replay", "0", "0@1")
	require.Equal(t, "no dead letters\n", s.ok("", "dlq", "list"))
	all := s.ok("", "dlq", "list", "--all")
	require.Contains(t, all, "0@0 was replayed by \"ann\": \"mended\"")
	require.Equal(t, 4, strings.Count(all, "\n"))
	require.Contains(t, s.ok("", "dlq", "show", "0"), "was replayed by")
}

func TestADiscardedDeadLetterIsNotReplayed(t *testing.T) {
	s := newDLQShell(t)
	s.letter("LAMP", "{", "3", "120", "the JSON ends early")
	s.letter("LAMP", "{", "3", "121", "the JSON ends early")
	s.fails("--why", "dlq", "discard", "0")
	plan := s.ok("", "dlq", "discard", "--reason=json", "--limit=1", "--why=test data")
	require.Contains(t, plan, "There are more")
	s.letter("LAMP", "{", "3", "122", "the JSON ends early")
	require.Equal(t, "discarded 1 dead letters\n", s.ok("", "dlq", "discard", "--reason=json", "--limit=1", "--why=test data", s.token(plan)))
	s.fails("none of these is an open dead letter", "dlq", "replay", "0")
	require.Equal(t, 2, strings.Count(s.ok("", "dlq", "list"), "\n"))
}

// The mark and the command are one transaction: neither is there without the other, whatever is lost.
func TestAReplayThatFailsHalfWayLeavesTheDeadLetterOpen(t *testing.T) {
	s := newDLQShell(t)
	s.letter("LAMP", "{", "3", "120", "the JSON ends early")
	s.letter("LAMP", "{", "77", "1", "from a larger topic")
	plan := s.ok("", "dlq", "replay", "0")
	s.fake.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = 47 // INVALID_PRODUCER_EPOCH: somebody took the transactional id over
		return resp, nil, true
	})
	s.fails("not known whether", "dlq", "replay", "0", s.token(plan))
	require.Contains(t, s.ok("", "dlq", "replay", "0", s.token(plan)), "replayed 1")
	require.Len(t, s.commands(1), 1, "that of the aborted transaction is not seen")

	s.fails("has only 12: discard it", "dlq", "replay", "1", s.token(s.ok("", "dlq", "replay", "1")))
	require.Equal(t, 1, strings.Count(s.ok("", "dlq", "list"), "\n"))
}
