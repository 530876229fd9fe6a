// Command ceiling applies commands from files through apply and postgres as a worker does, without Kafka: nothing is polled,
// read from bytes or published. It is what an allocator could do at the most if Kafka cost nothing, with the same
// decisions and the same SQL.
//
// The benchmark tests/bench/allocator builds and runs it, and checks what it leaves in Postgres. It prints one JSON object.
// It is not part of what ships.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/apply"
	"github.com/lotline/lotline/services/allocator/internal/commandlog"
	"github.com/lotline/lotline/services/allocator/internal/postgres"
)

type flags struct {
	PostgresURL      string           `required:"" env:"LOTLINE_POSTGRES_URL" help:"A migrated, empty database."`
	Setup            string           `required:"" type:"existingfile" help:"Commands that come first and are not measured, a JSON object a line."`
	Commands         string           `required:"" type:"existingfile" help:"Commands that are measured."`
	Sessions         int              `default:"2" help:"Partitions are shared out among so many connections."`
	ChunkMax         int              `default:"10000" help:"Commands of one transaction."`
	Cold             bool             `help:"Forget all SKUs between the two files."`
	EventContentType schemas.Encoding `default:"json" help:"json or protobuf."`
}

// command is a line of the files. Offsets of a partition begin at 0 and have no holes, also from one file to the next.
type command struct {
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Kind      allocation.Kind `json:"kind"`
	SKU       string          `json:"sku"`
	OrderID   string          `json:"orderid"`
	Ref       string          `json:"ref"`
	Qty       int32           `json:"qty"`
	ETA       string          `json:"eta"`
	ID        string          `json:"id"`
	Source    string          `json:"source"`
}

// result is what is printed.
type result struct {
	Seconds float64 `json:"seconds"`
	Events  uint64  `json:"events"`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Description("Applies commands from files, without Kafka."))
	r, err := run(context.Background(), f)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		slog.Error("ceiling", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) (result, error) {
	setup, err := read(f.Setup)
	if err != nil {
		return result{}, err
	}
	commands, err := read(f.Commands)
	if err != nil {
		return result{}, err
	}
	sessions := make([]*session, f.Sessions)
	for i := range sessions {
		if sessions[i], err = newSession(f); err != nil {
			return result{}, err
		}
		defer sessions[i].store.Close()
	}
	all := func(of map[int32][]apply.Input) error {
		group, ctx := errgroup.WithContext(ctx)
		for i, s := range sessions {
			group.Go(func() error {
				return s.apply(ctx, of, func(p int32) bool { return int(p)%len(sessions) == i })
			})
		}
		return group.Wait()
	}
	if err := all(setup); err != nil {
		return result{}, fmt.Errorf("apply the setup: %w", err)
	}
	before := uint64(0)
	for _, s := range sessions {
		before += s.applier.Counters.Events
		if f.Cold {
			s.applier.Forget()
		}
	}
	start := time.Now()
	if err := all(commands); err != nil {
		return result{}, fmt.Errorf("apply the commands: %w", err)
	}
	r := result{Seconds: time.Since(start).Seconds()}
	for _, s := range sessions {
		r.Events += s.applier.Counters.Events
	}
	r.Events -= before
	return r, nil
}

// session is what one worker has: a connection and a cache.
type session struct {
	store    *postgres.Store
	applier  *apply.Applier
	chunkMax int
	next     map[int32]int64
	trimmed  time.Time
}

func newSession(f flags) (*session, error) {
	store, err := postgres.New(func() (string, error) { return f.PostgresURL, nil }, 10*time.Second)
	if err != nil {
		return nil, err
	}
	applier, err := apply.New(store, commandlog.Encoder("ceiling", f.EventContentType), apply.Limits{
		Limits:            allocation.Limits{CutLinesMax: 100_000, CommandIDRetention: 7 * 24 * time.Hour},
		ProductsCachedMax: 1_000_000,
		SegmentBytesMax:   4 << 20,
	})
	return &session{store: store, applier: applier, chunkMax: f.ChunkMax, next: make(map[int32]int64)}, err
}

const (
	topicID      = "ceiling"              // there is none
	trimInterval = 500 * time.Millisecond // as a worker's
)

// apply takes all commands of its partitions, a chunk of each in turn, and deletes what it wrote to the outbox as a worker
// does that has published it.
func (s *session) apply(ctx context.Context, of map[int32][]apply.Input, mine func(int32) bool) error {
	partitions := slices.DeleteFunc(slices.Sorted(maps.Keys(of)), func(p int32) bool { return !mine(p) })
	if len(partitions) == 0 {
		return nil
	}
	if _, err := s.store.Positions(ctx, topicID, partitions); err != nil {
		return err
	}
	for begin, more := 0, true; more; begin += s.chunkMax {
		more = false
		for _, p := range partitions {
			in := of[p][min(begin, len(of[p])):min(begin+s.chunkMax, len(of[p]))]
			if len(in) == 0 {
				continue
			}
			more = true
			next := in[len(in)-1].Offset + 1
			if _, err := s.applier.Apply(ctx, topicID, p, s.next[p], next, in); err != nil {
				return err
			}
			s.next[p] = next
		}
		if err := s.trim(ctx, partitions); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) trim(ctx context.Context, partitions []int32) error {
	if time.Since(s.trimmed) < trimInterval {
		return nil
	}
	s.trimmed = time.Now()
	done := make([]postgres.Published, len(partitions))
	for i, p := range partitions {
		done[i] = postgres.Published{TopicID: topicID, Partition: p, Offset: s.next[p]}
	}
	return s.store.Trim(ctx, done)
}

// read returns the commands of a file by partition.
func read(file string) (map[int32][]apply.Input, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	now := time.Now().UTC().Truncate(time.Millisecond)
	by := make(map[int32][]apply.Input)
	for lines := json.NewDecoder(bufio.NewReader(f)); ; {
		var c command
		if err := lines.Decode(&c); errors.Is(err, io.EOF) {
			return by, nil
		} else if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		by[c.Partition] = append(by[c.Partition], apply.Input{Offset: c.Offset, Time: now, Command: allocation.Command{
			Kind: c.Kind, SKU: c.SKU, OrderID: c.OrderID, Ref: c.Ref, Qty: c.Qty, ETA: c.ETA, Time: now,
			ID:       allocation.CommandID{Source: c.Source, ID: c.ID},
			Position: allocation.Position{Partition: c.Partition, Offset: c.Offset},
		}})
	}
}
