//go:build integration

package trial

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/postgresclient/postgrestest"
	"github.com/lotline/lotline/tests/internal/isolation"
	"github.com/lotline/lotline/tests/servers"
)

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(m.Run())
}

// What the benchmarks check must be able to fail: an event that is there twice, a command without an event, a row that no
// event explains, and one that all agree on but that the work does not come to.
func TestCheckFindsWhatIsPlanted(t *testing.T) {
	ctx := t.Context()
	g, err := NewGround(ctx, Servers{Postgres: postgrestest.Database(t), Kafka: []string{isolation.Kfake(t)}}, AllocatorProgram)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	require.NoError(t, err)
	s, err := g.NewSite(ctx, 4)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	row := Base(20)
	row.Batches = 3
	w := row.New(200, 1)
	a, err := s.StartAllocators(ctx, 1, 2)
	t.Cleanup(func() { require.NoError(t, a.Stop()) })
	require.NoError(t, err)
	d, err := s.Drive()
	require.NoError(t, err)
	t.Cleanup(d.Close)
	for _, part := range [][]Command{w.Setup, w.Commands} {
		show, err := d.Send(ctx, w, part)
		require.NoError(t, err)
		_, err = show()
		require.NoError(t, err)
		_, err = d.Await(ctx, len(part))
		require.NoError(t, err)
	}
	require.NoError(t, s.Check(ctx, w))

	other := *w
	other.Commands = append(other.Commands, Command{Command: w.Commands[0].Command, ID: "never-sent"})
	other.Commands[len(w.Commands)].OrderID = "never-sent"
	require.ErrorContains(t, s.Check(ctx, &other), "1 of 201 lines are missing")

	conn, err := pgx.Connect(ctx, s.PostgresURL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "UPDATE order_lines SET qty = 3 WHERE orderid = $1", w.Commands[7].OrderID)
	require.NoError(t, err)
	err = s.Check(ctx, w)
	require.ErrorContains(t, err, "Postgres quantities of order lines")
	require.ErrorContains(t, err, "1 rows in Postgres are wrong")
	_, err = conn.Exec(ctx, "UPDATE order_lines SET qty = 2 WHERE orderid = $1", w.Commands[7].OrderID)
	require.NoError(t, err)

	plant(t, s)
	require.ErrorContains(t, s.Check(ctx, w), "is there twice")
}

// Two transactions want each other's rows: Postgres ends one of them, and whoever it was may have tried again.
func TestADeadlockIsSeen(t *testing.T) {
	ctx := t.Context()
	s := &Site{PostgresURL: postgrestest.Database(t)}
	var conns [2]*pgx.Conn
	for i := range conns {
		var err error
		conns[i], err = pgx.Connect(ctx, s.PostgresURL)
		require.NoError(t, err)
		defer conns[i].Close(ctx)
	}
	_, err := conns[0].Exec(ctx, "CREATE TABLE a (); CREATE TABLE b ()")
	require.NoError(t, err)
	lock := func(i int, table string) error {
		_, err := conns[i].Exec(ctx, "LOCK TABLE "+table)
		return err
	}
	ended := make(chan error, 2)
	for i, table := range []string{"a", "b"} {
		_, err := conns[i].Exec(ctx, "BEGIN; SET LOCAL deadlock_timeout = '20ms'; LOCK TABLE "+table)
		require.NoError(t, err)
	}
	go func() { ended <- lock(0, "b") }()
	go func() { ended <- lock(1, "a") }()
	require.ErrorContains(t, errors.Join(<-ended, <-ended), "deadlock detected")
	impatient, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	require.ErrorContains(t, s.CheckDeadlocks(impatient), "2 connections to Postgres are left")
	for _, conn := range conns {
		require.NoError(t, conn.Close(ctx))
	}
	require.EqualError(t, s.CheckDeadlocks(ctx), "Postgres met 1 deadlocks")
}

// plant appends an event of a line that is there already.
func plant(t *testing.T, s *Site) {
	t.Helper()
	client, err := kgo.NewClient(append(s.Config.Opts("plant"), kgo.ConsumeTopics(s.Set.Events.Name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(t, err)
	defer client.Close()
	var r *kgo.Record
	for r == nil || !bytes.Contains(r.Value, []byte("orderid")) {
		r = client.PollRecords(t.Context(), 1).Records()[0]
	}
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers}).FirstErr())
}
