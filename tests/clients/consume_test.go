//go:build integration

package clients

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/schemas"
)

// note is a row of a consumer's work.
type note struct {
	BatchRef, OrderID string
	Units             int
}

// effect is what a consumer has after all events, each handled once.
type effect struct {
	handled  map[string]uint64 // versions by SKU
	notes    map[string][]note // by SKU, in the order of its versions
	refusals map[string]bool   // by ce_id
}

func (s *scenario) fold() effect {
	s.Helper()
	f := effect{make(map[string]uint64), make(map[string][]note), make(map[string]bool)}
	for _, e := range s.events {
		if !e.Type.ChangesState() {
			f.refusals[e.ceID] = true
			continue
		}
		require.Equal(s, f.handled[e.SKU]+1, e.Version)
		f.handled[e.SKU] = e.Version
		switch e.Type {
		case schemas.EventAllocated:
			f.notes[e.SKU] = append(f.notes[e.SKU], note{e.BatchRef, e.OrderID, int(e.Qty)})
		case schemas.EventDeallocated:
			f.notes[e.SKU] = append(f.notes[e.SKU], note{e.BatchRef, e.OrderID, -int(e.Qty)})
		}
	}
	return f
}

// consumer is a language's consumer, with a database and a group of its own.
type consumer struct {
	language
	group       string
	url         string // of the database
	db          *pgx.Conn
	environment []string
	running     *process
}

func (s *scenario) newConsumer(l language) *consumer {
	s.Helper()
	c := &consumer{language: l, group: s.on.TopicPrefix + "." + l.name}
	c.db, c.url = s.database(l.name)
	c.environment = append(s.environment(), "DATABASE_URL="+l.database(c.url), "GROUP_ID="+c.group)
	return c
}

func (c *consumer) begin(s *scenario) {
	s.Helper()
	c.running = start(s.T, c.dir, c.consumer, c.environment, "")
}

// killInTheMiddle starts consumers and kills each in the middle of an event: once before it can write down the version,
// and once before it can do the work. What was written before that must be gone with the transaction.
func (s *scenario) killInTheMiddle(consumers []*consumer) {
	s.Helper()
	s.killAt(consumers, 0, "handled")
	s.killAt(consumers, 1, "notes")
}

func (s *scenario) killAt(consumers []*consumer, time int, table string) {
	s.Helper()
	for _, c := range consumers {
		release := s.holdUp(c, time, table)
		defer release()
		c.begin(s)
	}
	for _, c := range consumers {
		c.running.await(s.T, func() string { return s.notHeldUp(c) })
		c.running.kill()
		// Its connection dies with it; a statement that waits would otherwise be carried out all the same.
		_, err := c.db.Exec(s.Context(), `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		require.NoError(s, err)
		var handled int
		require.NoError(s, c.db.QueryRow(s.Context(), "SELECT count(*) FROM notes").Scan(&handled))
		require.Positive(s, handled, "notes of the %s consumer, killed half way", c.name)
	}
}

// handleAll starts consumers again and has them handle the events to the last.
func (s *scenario) handleAll(consumers []*consumer) {
	s.Helper()
	for _, c := range consumers {
		c.begin(s)
	}
	for _, c := range consumers {
		s.awaitCommitted(c)
		s.checkEffect(c)
	}
}

// handleAllAgain stops consumers and has them read all events once more.
func (s *scenario) handleAllAgain(consumers []*consumer) {
	s.Helper()
	for _, c := range consumers {
		c.running.askToStop(s.T)
	}
	for _, c := range consumers {
		c.running.stopped(s.T)
		s.rewind(c.group)
	}
	s.handleAll(consumers)
}

// database makes a consumer's database, with the tables of consumer.sql.
func (s *scenario) database(name string) (*pgx.Conn, string) {
	s.Helper()
	admin := connect(s.T, s.on.PostgresURL)
	name = s.on.Database + "_" + name
	_, err := admin.Exec(s.Context(), "CREATE DATABASE "+name)
	require.NoError(s, err)
	s.Cleanup(func() {
		_, err := admin.Exec(context.WithoutCancel(s.Context()), "DROP DATABASE "+name+" WITH (FORCE)")
		require.NoError(s, err)
	})
	address, err := url.Parse(s.on.PostgresURL)
	require.NoError(s, err)
	address.Path = "/" + name
	db := connect(s.T, address.String())
	tables, err := os.ReadFile("consumer.sql")
	require.NoError(s, err)
	_, err = db.Exec(s.Context(), string(tables))
	require.NoError(s, err)
	return db, address.String()
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) })
	return conn
}

// holdUp makes a consumer wait when it writes to a table for an allocation half way through a partition, until released.
// The time-th time, it is a later one.
func (s *scenario) holdUp(c *consumer, time int, table string) (release func()) {
	s.Helper()
	var allocations []event // of the first event's partition, with names that need no quoting
	for _, e := range s.events {
		if e.record.Partition == s.events[0].record.Partition && e.Type == schemas.EventAllocated && strings.HasPrefix(e.SKU, "SKU-") {
			allocations = append(allocations, e)
		}
	}
	e := allocations[len(allocations)*(time+1)/3]
	row := fmt.Sprintf("NEW.sku = '%s' AND NEW.version = %d", e.SKU, e.Version)
	if table == "notes" {
		row = fmt.Sprintf("NEW.sku = '%s' AND NEW.orderid = '%s' AND NEW.units = %d", e.SKU, e.OrderID, e.Qty)
	}
	_, err := c.db.Exec(s.Context(), fmt.Sprintf(`
		CREATE FUNCTION hold_%[1]s() RETURNS trigger LANGUAGE plpgsql AS
			$$BEGIN IF %[2]s THEN PERFORM pg_advisory_xact_lock(%[3]d); END IF; RETURN NEW; END$$;
		CREATE TRIGGER hold BEFORE INSERT OR UPDATE ON %[1]s FOR EACH ROW EXECUTE FUNCTION hold_%[1]s()`, table, row, time))
	require.NoError(s, err)
	holder := connect(s.T, c.url)
	_, err = holder.Exec(s.Context(), "SELECT pg_advisory_lock($1)", time)
	require.NoError(s, err)
	return func() {
		_, err := holder.Exec(s.Context(), "SELECT pg_advisory_unlock($1)", time)
		require.NoError(s, err)
	}
}

// notHeldUp says that the consumer does not wait where holdUp holds it.
func (s *scenario) notHeldUp(c *consumer) string {
	s.Helper()
	var waiting int
	require.NoError(s, c.db.QueryRow(s.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
	if waiting > 0 {
		return ""
	}
	return "the consumer is not in the middle of the event where it is held"
}

// awaitCommitted waits until the group has committed the offsets of all events.
func (s *scenario) awaitCommitted(c *consumer) {
	s.Helper()
	want := make(map[int32]int64)
	for _, e := range s.events {
		want[e.record.Partition] = max(want[e.record.Partition], e.record.Offset+1)
	}
	admin := kadm.NewClient(s.client())
	c.running.await(s.T, func() string {
		committed, err := admin.FetchOffsets(s.Context(), c.group)
		require.NoError(s, err)
		for partition, offset := range want {
			if at, ok := committed.Lookup(s.topics.Events.Name, partition); !ok || at.At < offset {
				return fmt.Sprintf("partition %d is committed up to %d of %d", partition, at.At, offset)
			}
		}
		return ""
	})
}

// rewind sets the group back to the first event of each partition.
func (s *scenario) rewind(group string) {
	s.Helper()
	admin := kadm.NewClient(s.client())
	offsets := make(kadm.Offsets)
	for partition := range s.topics.Events.Partitions {
		offsets.AddOffset(s.topics.Events.Name, partition, 0, -1)
	}
	require.NoError(s, admin.CommitAllOffsets(s.Context(), group, offsets))
}

func (s *scenario) checkEffect(c *consumer) {
	s.Helper()
	got := effect{make(map[string]uint64), make(map[string][]note), make(map[string]bool)}
	var sku, id string
	var version uint64
	var n note
	query := func(sql string, into []any, take func()) {
		rows, err := c.db.Query(s.Context(), sql)
		require.NoError(s, err)
		_, err = pgx.ForEachRow(rows, into, func() error { take(); return nil })
		require.NoError(s, err)
	}
	query("SELECT sku, version FROM handled", []any{&sku, &version}, func() { got.handled[sku] = version })
	query("SELECT sku, batchref, orderid, units FROM notes ORDER BY id", []any{&sku, &n.BatchRef, &n.OrderID, &n.Units},
		func() { got.notes[sku] = append(got.notes[sku], n) })
	query("SELECT ce_id FROM refusals", []any{&id}, func() { got.refusals[id] = true })
	assert.Empty(s, s.fold().differences(got), "what the %s consumer did, and what the events say", c.name)
}

// differences says, for the first few SKUs and answers, what differs.
func (want effect) differences(got effect) []string {
	var all []string
	differ := func(name string, want, got any) {
		if len(all) < 5 && !assert.ObjectsAreEqual(want, got) {
			all = append(all, fmt.Sprintf("%s: %v, the events say %v", name, got, want))
		}
	}
	for sku := range want.handled {
		differ(sku+" is handled", want.handled[sku], got.handled[sku])
		differ(sku+" has the notes", want.notes[sku], got.notes[sku])
	}
	for id := range want.refusals {
		differ(id+" was answered", true, got.refusals[id])
	}
	differ("numbers of SKUs, SKUs with notes, answers", []int{len(want.handled), len(want.notes), len(want.refusals)},
		[]int{len(got.handled), len(got.notes), len(got.refusals)})
	return all
}

// checkHole writes an event whose version is not the next, and sees each consumer stop and say so.
func (s *scenario) checkHole(consumers []*consumer) {
	s.Helper()
	client := s.client(kgo.DefaultProduceTopic(s.topics.Events.Name))
	require.NoError(s, client.ProduceSync(s.Context(), s.oneMore("SKU-7", 2)).FirstErr())
	for _, c := range consumers {
		require.NotZero(s, c.running.exit(s.T, awaitWithin), "%s\n%s", c.name, &c.running.log)
		require.Contains(s, c.running.log.String(), "SKU-7 is handled up to version", c.name)
	}
}
