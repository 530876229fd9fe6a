//go:build integration

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/services/allocator/internal/apply"
)

// step is a commit of partition 0 at from, without content.
func step(from int64) apply.Write { return apply.Write{TopicID: "topic", From: from, Next: from + 1} }

// TestLockedHoldsItsRows: while one allocator has its SKUs locked, another's commit waits, and is then refused.
func TestLockedHoldsItsRows(t *testing.T) {
	d := newDatabase(t)
	a, b := d.store(time.Minute), d.store(time.Minute)
	require.NoError(t, a.Commit(t.Context(), filled("CHAIR", 0, 8)))
	other := apply.Write{TopicID: "topic", Partition: 1, From: 0, Next: 1, Products: []apply.Moved{{SKU: "CHAIR", Old: 7, New: 8}}}

	answered := make(chan error, 1)
	require.NoError(t, a.Locked(t.Context(), "topic", 0, 8, []string{"CHAIR"}, func(_ context.Context, s apply.Session) error {
		go func() { answered <- b.Commit(context.Background(), other) }()
		d.awaitWaiter("the other commit waits for the row")
		loaded, err := s.Load(t.Context(), everything("CHAIR"))
		require.NoError(t, err)
		require.EqualValues(t, 7, loaded.Products[0].Version)
		return s.Commit(t.Context(), apply.Write{TopicID: "topic", From: 8, Next: 9, Products: []apply.Moved{{SKU: "CHAIR", Old: 7, New: 9, Available: 5}}})
	}))
	require.ErrorIs(t, <-answered, apply.ErrRefused)
	next, err := b.NextOffset(t.Context(), "topic", 1)
	require.NoError(t, err)
	require.Zero(t, next)
}

// TestLockedHoldsThePartition: nobody moves the partition between the look at it and the commit.
func TestLockedHoldsThePartition(t *testing.T) {
	d := newDatabase(t)
	a, b := d.store(time.Minute), d.store(time.Minute)
	answered := make(chan error, 1)
	require.NoError(t, a.Locked(t.Context(), "topic", 0, 0, nil, func(_ context.Context, s apply.Session) error {
		go func() { answered <- b.Commit(context.Background(), step(0)) }()
		select {
		case err := <-answered:
			t.Errorf("the other did not wait: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		return s.Commit(t.Context(), step(0))
	}))
	require.ErrorIs(t, <-answered, apply.ErrRefused)
}

// TestLockedRefused: a partition that moved is refused before anything is decided; a refusal or an error inside
// leaves nothing behind, and the connection is used again after a refusal only.
func TestLockedRefused(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), filled("CHAIR", 0, 8)))
	for _, from := range []int64{0, 7, 9} {
		err := s.Locked(t.Context(), "topic", 0, from, []string{"CHAIR"}, func(context.Context, apply.Session) error {
			t.Error("called although the partition moved")
			return nil
		})
		require.ErrorIs(t, err, apply.ErrRefused)
	}
	before, conn := d.contents(), s.conn
	// A SKU that was unknown has no row to lock: it can be created by another meanwhile.
	err := s.Locked(t.Context(), "topic", 0, 8, []string{"CHAIR", "LAMP"}, func(_ context.Context, in apply.Session) error {
		d.exec(`INSERT INTO products VALUES ('LAMP', 1, 1)`)
		return in.Commit(t.Context(), apply.Write{TopicID: "topic", From: 8, Next: 9, Products: []apply.Moved{{SKU: "LAMP", Old: 0, New: 1}}})
	})
	require.ErrorIs(t, err, apply.ErrRefused)
	d.exec(`DELETE FROM products WHERE sku = 'LAMP'`)
	require.Equal(t, before, d.contents())
	require.Same(t, conn, s.conn)

	broken := errors.New("decided nothing")
	err = s.Locked(t.Context(), "topic", 0, 8, []string{"CHAIR"}, func(_ context.Context, in apply.Session) error {
		require.NoError(t, in.Commit(t.Context(), step(8)))
		return broken
	})
	require.ErrorIs(t, err, broken)
	require.Equal(t, before, d.contents())
	require.NoError(t, s.Commit(t.Context(), step(8)))
}

// TestSharedSKUs: two allocators commit to the same 200 SKUs, which their commands name in opposite orders, and
// create others meanwhile. Nobody deadlocks, and each increment is there once.
func TestSharedSKUs(t *testing.T) {
	const skus, commits = 200, 1500
	d := newDatabase(t)
	names := make([]string, skus)
	for i := range names {
		names[i] = fmt.Sprintf("SKU-%03d", i)
	}
	var workers sync.WaitGroup
	var increments, refusals [2]int
	for partition := range int32(2) {
		s := d.store(30 * time.Second)
		workers.Go(func() {
			for n := range commits {
				// A window of SKUs, from opposite ends: they meet everywhere.
				var chunk []string
				for i := range 20 {
					at := (n*7 + i) % skus
					if partition == 1 {
						at = skus - 1 - at
					}
					chunk = append(chunk, names[at])
				}
				slices.Sort(chunk) // as apply does
				for try := 0; ; try++ {
					commit := func(ctx context.Context, in apply.Session) error {
						return increment(ctx, in, partition, int64(n), chunk)
					}
					var err error
					if try == 0 {
						err = commit(t.Context(), s)
					} else {
						err = s.Locked(t.Context(), "topic", partition, int64(n), chunk, commit)
					}
					if err == nil {
						break
					}
					if !errors.Is(err, apply.ErrRefused) || try > 16 {
						t.Errorf("commit %d of partition %d, try %d: %v", n, partition, try, err)
						return
					}
					refusals[partition]++
				}
				increments[partition] += len(chunk)
			}
		})
	}
	workers.Wait()
	var sum int
	d.row(`SELECT sum(version) FROM products`, &sum)
	require.Equal(t, increments[0]+increments[1], sum)
	require.Equal(t, 2*commits*20, sum)
	require.Positive(t, refusals[0]+refusals[1], "they never met: the test shows nothing")
	var batches int
	d.row(`SELECT sum(created_qty) FROM batches`, &batches)
	require.Equal(t, skus, batches, "one batch a SKU")
}

// TestWhoCreatesASKUWaitsInKeyOrder: Y was created since E and Y were found unknown, and whoever changed it creates E too.
func TestWhoCreatesASKUWaitsInKeyOrder(t *testing.T) {
	d := newDatabase(t)
	d.exec(`INSERT INTO products (sku, version, available) VALUES ('Y', 1, 0)`)
	other, err := pgx.Connect(t.Context(), d.url)
	require.NoError(t, err)
	defer other.Close(context.Background())
	tx, err := other.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE products SET version = 2 WHERE sku = 'Y'`)
	require.NoError(t, err)

	s := d.store(30 * time.Second)
	refused := make(chan error, 1)
	go func() {
		refused <- s.Commit(t.Context(), apply.Write{TopicID: "topic", Partition: 0, Next: 1, Products: []apply.Moved{{SKU: "E", New: 1}, {SKU: "Y", New: 1}}})
	}()
	d.awaitWaiter("the commit waits for Y")
	_, err = tx.Exec(t.Context(), `INSERT INTO products (sku, version, available) VALUES ('E', 1, 0)`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	require.ErrorIs(t, <-refused, apply.ErrRefused)
}

// TestWhoHoldsSKUsDoesNotWaitForOneThatWasCreatedSince: A is created by another once Z is held, and changed again by who goes on
// to Z then. To change A too would be a deadlock. It is not, wherever the session learns that there is an A.
func TestWhoHoldsSKUsDoesNotWaitForOneThatWasCreatedSince(t *testing.T) {
	both := apply.Write{TopicID: "topic", Next: 1, Products: []apply.Moved{{SKU: "A", New: 1}, {SKU: "Z", Old: 1, New: 2}}}
	read := apply.Write{TopicID: "topic", Next: 1, Products: []apply.Moved{{SKU: "A"}, {SKU: "Z", Old: 1, New: 2}}}
	for name, session := range map[string]func(ctx context.Context, in apply.Session, createA func()) error{
		"before it is loaded": func(ctx context.Context, in apply.Session, createA func()) error {
			createA()
			return increment(ctx, in, 0, 0, []string{"A", "Z"})
		},
		"once it was loaded": func(ctx context.Context, in apply.Session, createA func()) error {
			loaded, err := in.Load(ctx, apply.Need{Products: []string{"A", "Z"}})
			require.NoError(t, err)
			require.Len(t, loaded.Products, 1)
			createA()
			return in.Commit(ctx, both)
		},
		"cached as unknown, and not loaded": func(ctx context.Context, in apply.Session, createA func()) error {
			createA()
			return in.Commit(ctx, both)
		},
		"cached as unknown, and only read": func(ctx context.Context, in apply.Session, createA func()) error {
			createA()
			return in.Commit(ctx, read)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.exec(`INSERT INTO products (sku, version, available) VALUES ('Z', 1, 0)`)
			s := d.store(30 * time.Second)
			var went <-chan error
			err := s.Locked(t.Context(), "topic", 0, 0, []string{"A", "Z"}, func(ctx context.Context, in apply.Session) error {
				return session(ctx, in, func() {
					went = d.createsAndGoesOn("A", "Z")
					d.awaitWaiter("the other waits for Z")
				})
			})
			require.ErrorIs(t, err, apply.ErrRefused)
			require.NoError(t, <-went)
		})
	}
}

// TestWhoCreatesSKUsDoesNotWaitForLong: while Z is held, and D is waited for, which another is about to create, Y is created and
// changed again by who goes on to Z then. Once D is there, to wait for Y would be a deadlock.
func TestWhoCreatesSKUsDoesNotWaitForLong(t *testing.T) {
	d := newDatabase(t)
	d.exec(`INSERT INTO products (sku, version, available) VALUES ('Z', 1, 0)`)
	s := d.store(30 * time.Second)
	tx := d.holder(`INSERT INTO products (sku, version, available) VALUES ('D', 1, 0)`)
	refused := make(chan error, 1)
	go func() {
		refused <- s.Commit(t.Context(), apply.Write{TopicID: "topic", Next: 1, Products: []apply.Moved{{SKU: "D", New: 1}, {SKU: "Y", New: 1}, {SKU: "Z", Old: 1, New: 2}}})
	}()
	require.Eventually(t, func() bool { return len(refused) > 0 || d.waiting() == 1 }, 10*time.Second, time.Millisecond)
	went := d.createsAndGoesOn("Y", "Z")
	require.NoError(t, tx.Commit(t.Context()))
	require.ErrorIs(t, <-refused, apply.ErrRefused)
	require.NoError(t, <-went)
}

// createsAndGoesOn is another who creates a SKU, and then changes it and goes on to the next in one transaction.
func (d database) createsAndGoesOn(sku, next string) <-chan error {
	d.t.Helper()
	d.exec(`INSERT INTO products (sku, version, available) VALUES ('` + sku + `', 1, 0)`)
	tx := d.holder(`UPDATE products SET version = 2 WHERE sku = '` + sku + `'`)
	went := make(chan error, 1)
	go func() {
		_, err := tx.Exec(context.Background(), `UPDATE products SET version = 2 WHERE sku = $1`, next)
		went <- errors.Join(err, tx.Commit(context.Background()))
	}()
	return went
}

// increment adds one to the version of each SKU, as a chunk of commands does.
func increment(ctx context.Context, s apply.Session, partition int32, from int64, skus []string) error {
	loaded, err := s.Load(ctx, apply.Need{Products: skus})
	if err != nil {
		return err
	}
	versions := make(map[string]uint64)
	for _, p := range loaded.Products {
		versions[p.SKU] = p.Version
	}
	w := apply.Write{TopicID: "topic", Partition: partition, From: from, Next: from + 1}
	for _, sku := range skus {
		w.Products = append(w.Products, apply.Moved{SKU: sku, Old: versions[sku], New: versions[sku] + 1})
		c := filled(sku, 0, 1).Changes[0]
		batches, lines := c.NewBatches[:1], c.NewLines[:1]
		batches[0].CreatedQty = 1
		if c.NewBatches, c.NewLines = batches, lines; versions[sku] > 0 {
			c.NewBatches, c.NewLines, c.Batches, c.Lines = nil, nil, batches, lines
		}
		w.Changes = append(w.Changes, c)
	}
	return s.Commit(ctx, w)
}

// TestAFrozenHolder: an allocator that freezes with its rows locked is ended by the server, and its successor, which
// waited for the rows, goes on. When the frozen one wakes it commits nothing.
func TestAFrozenHolder(t *testing.T) {
	d := newDatabase(t)
	frozen, successor := d.store(time.Second), d.store(time.Minute)
	require.NoError(t, successor.Commit(t.Context(), filled("CHAIR", 0, 8)))
	took := make(chan time.Duration, 1)
	err := frozen.Locked(t.Context(), "topic", 0, 8, []string{"CHAIR"}, func(_ context.Context, s apply.Session) error {
		start := time.Now()
		require.NoError(t, successor.Locked(t.Context(), "topic", 0, 8, []string{"CHAIR"}, func(_ context.Context, s apply.Session) error {
			return s.Commit(t.Context(), step(8))
		}))
		took <- time.Since(start)
		return s.Commit(t.Context(), step(8))
	})
	require.Error(t, err)
	require.NotErrorIs(t, err, apply.ErrRefused)
	require.Less(t, <-took, 5*time.Second)
	next, err := frozen.NextOffset(t.Context(), "topic", 0)
	require.NoError(t, err, "it connects again")
	require.EqualValues(t, 9, next)
	require.ErrorIs(t, frozen.Commit(t.Context(), step(8)), apply.ErrRefused)
}

// TestAKilledBackend: whatever was asked when the connection died is an error, never an answer; the next call
// connects again.
func TestAKilledBackend(t *testing.T) {
	d := newDatabase(t)
	s := d.store(time.Minute)
	require.NoError(t, s.Commit(t.Context(), filled("CHAIR", 0, 8)))
	kill := func() {
		var done bool
		d.row(`SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'lotline-allocator'`, &done)
		require.True(t, done)
	}
	for name, ask := range map[string]func() error{
		"Load":       func() error { _, err := s.Load(t.Context(), everything("CHAIR")); return err },
		"Commit":     func() error { return s.Commit(t.Context(), step(8)) },
		"NextOffset": func() error { _, err := s.NextOffset(t.Context(), "topic", 0); return err },
		"Standing":   func() error { _, err := s.Standing(t.Context(), []int32{0}); return err },
		"Outbox":     func() error { _, err := s.Outbox(t.Context(), 0, 0, 8, 1<<30); return err },
		"Trim":       func() error { return s.Trim(t.Context(), []Published{{TopicID: "topic", Partition: 0, Offset: 1}}) },
		"Locked": func() error {
			return s.Locked(t.Context(), "topic", 0, 8, nil, func(context.Context, apply.Session) error { return nil })
		},
	} {
		kill()
		err := ask()
		require.Error(t, err, name)
		require.NotErrorIs(t, err, apply.ErrRefused, name)
		next, err := s.NextOffset(t.Context(), "topic", 0)
		require.NoError(t, err, name)
		require.EqualValues(t, 8, next, name)
	}
	err := s.Locked(t.Context(), "topic", 0, 8, nil, func(_ context.Context, in apply.Session) error {
		kill()
		return in.Commit(t.Context(), step(8))
	})
	require.Error(t, err)
	require.NoError(t, s.Commit(t.Context(), step(8)))
}

// TestASilentNetwork: the connection stays open and carries nothing any more. The wait for an answer ends, long before
// the operating system gives up, with an error: the outcome is not known.
func TestASilentNetwork(t *testing.T) {
	d := newDatabase(t)
	u, err := url.Parse(d.url)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	var silent atomic.Bool
	server := u.Host
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				t.Errorf("dial Postgres: %v", err)
				return
			}
			t.Cleanup(func() { _, _ = client.Close(), upstream.Close() })
			go func() { _, _ = io.Copy(client, upstream) }()
			go func() {
				buffer := make([]byte, 1<<16)
				for {
					n, err := client.Read(buffer)
					if err != nil {
						return
					}
					if !silent.Load() {
						_, _ = upstream.Write(buffer[:n])
					}
				}
			}()
		}
	}()
	u.Host = listener.Addr().String()
	d.url = u.String()
	s := d.store(500 * time.Millisecond)
	require.NoError(t, s.Commit(t.Context(), step(0)))
	silent.Store(true)
	start := time.Now()
	err = s.Commit(t.Context(), step(1))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, apply.ErrRefused)
	_, err = s.Positions(t.Context(), "topic", []int32{0})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(start), 5*time.Second)
	silent.Store(false)
	next, err := s.NextOffset(t.Context(), "topic", 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, next)
}
