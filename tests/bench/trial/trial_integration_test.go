//go:build integration

package trial

import (
	"bytes"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

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
	g, err := NewGround(ctx, Servers{Postgres: isolation.PostgresDatabase(t), Kafka: []string{isolation.Kfake(t)}}, AllocatorProgram)
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
