package crash

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/topics"
)

// frozenHolder stops an allocator inside a transaction that holds rows, and measures what that costs its commands.
//
// It is in one for long enough to be met where commands of a SKU come over several partitions: then it locks the SKUs
// before it reads them. It is frozen again and again until Postgres says that a transaction of it waits for it.
func frozenHolder(ctx context.Context, f *Field) error {
	stopped, stop := context.WithCancel(ctx)
	defer stop()
	shared := make(chan error, 1)
	go func() { shared <- f.sendShared(ctx, stopped.Done()) }()
	victim := f.process("allocator", "a").Process
	var holder int
	for began := time.Now(); holder == 0; {
		if time.Since(began) > noticedWithin {
			return errors.New("the allocator was never frozen inside a transaction")
		}
		time.Sleep(20 * time.Millisecond)
		if err := victim.Signal(syscall.SIGSTOP); err != nil {
			return fmt.Errorf("freeze allocator a: %w", err)
		}
		var err error
		if holder, err = f.silentHolder(ctx); err != nil {
			return err
		}
		if holder == 0 {
			if err := victim.Signal(syscall.SIGCONT); err != nil {
				return fmt.Errorf("wake allocator a: %w", err)
			}
		}
	}
	frozen := time.Now()
	sent := f.load(ctx)
	stop()
	if err := <-shared; err != nil {
		return err
	}
	if err := errors.Join(f.seeHolder(ctx, holder), sent()); err != nil {
		return err
	}
	ends, err := f.adm.ListEndOffsets(ctx, topics.Declared(f.name).Commands.Name)
	if err = errors.Join(err, ends.Error()); err != nil {
		return fmt.Errorf("count the commands: %w", err)
	}
	var all int64
	ends.Each(func(end kadm.ListedOffset) { all += end.Offset })
	gone := fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE pid = %d`, holder)
	if err := f.awaitCount(ctx, gone, func(n int64) bool { return n == 0 }); err != nil {
		return fmt.Errorf("wait for the end of the frozen allocator's transaction: %w", err)
	}
	f.measure("frozen, its locks ended after", time.Since(frozen))
	if err := f.awaitCount(ctx, appliedOffsets, func(n int64) bool { return n >= all }); err != nil {
		return fmt.Errorf("wait until another has decided all: %w", err)
	}
	f.measure("all decided by the other after", time.Since(frozen))
	took, err := f.awaitPublished(ctx, frozen)
	if err != nil {
		return err
	}
	f.measure("published after", took)
	if state, err := processState(victim.Pid); err != nil || state != "T" {
		return fmt.Errorf("allocator a was not frozen all the while: %s: %w", state, err)
	}
	if err := victim.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("wake allocator a: %w", err)
	}
	return nil
}

// silentHolder is the backend of an allocator that has locked SKUs, and whose transaction goes on without a word from it
// for longer than one that is only slow: that of the frozen one. 0 = none.
func (f *Field) silentHolder(ctx context.Context) (pid int, err error) {
	for _, silent := range []time.Duration{30 * time.Millisecond, 600 * time.Millisecond} {
		time.Sleep(silent)
		if err = f.query(ctx, fmt.Sprintf(`SELECT coalesce(max(a.pid), 0) FROM pg_stat_activity a
			JOIN pg_locks l ON l.pid = a.pid AND l.mode = 'RowShareLock' AND l.relation = 'products'::regclass
			WHERE a.datname = current_database() AND application_name = 'lotline-allocator' AND state = 'idle in transaction'
				AND clock_timestamp() - state_change > interval '%d milliseconds'`, silent.Milliseconds()-10), &pid); err != nil || pid == 0 {
			return 0, err
		}
	}
	return pid, nil
}

// seeHolder notes what Postgres shows of a backend that holds rows for a frozen process.
func (f *Field) seeHolder(ctx context.Context, pid int) error {
	var state, tables string
	var idle float64
	var waiting int
	if err := f.query(ctx, fmt.Sprintf(`SELECT state, extract(epoch FROM clock_timestamp() - state_change)::float8,
			(SELECT coalesce(string_agg(DISTINCT relation::regclass::text, ', '), '') FROM pg_locks
				WHERE pid = a.pid AND mode = 'RowShareLock' AND relation IN ('partitions'::regclass, 'products'::regclass)),
			(SELECT count(*) FROM pg_stat_activity w WHERE a.pid = ANY (pg_blocking_pids(w.pid)))
		FROM pg_stat_activity a WHERE pid = %d`, pid), &state, &idle, &tables, &waiting); err != nil {
		return fmt.Errorf("look at the frozen allocator's backend: %w", err)
	}
	if state != "idle in transaction" || tables == "" {
		return fmt.Errorf("the frozen allocator's backend is %q and holds rows of %q: it holds up nobody", state, tables)
	}
	f.took("SIGSTOP of allocator a in a transaction", "pg_stat_activity: its backend was %s for %.1f s, with rows locked in %s, and %d backends waited for it", state, idle, tables, waiting)
	return nil
}

// awaitCount waits until Postgres counts a number that will do.
func (f *Field) awaitCount(ctx context.Context, sql string, enough func(int64) bool) error {
	for began := time.Now(); ; time.Sleep(lookEvery) {
		var n int64
		if err := f.query(ctx, sql, &n); err != nil || enough(n) {
			return err
		}
		if time.Since(began) > noticedWithin {
			return fmt.Errorf("it counts %d after %s, see %s", n, noticedWithin, f.dir)
		}
	}
}

const sharedSKUs = 5

// sendShared sends orders for few SKUs over all partitions, until it is told to stop.
func (f *Field) sendShared(ctx context.Context, stop <-chan struct{}) error {
	client, err := kgo.NewClient(append(f.target.Kafka.Opts("lotline-drill"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	commands := topics.Declared(f.name).Commands
	record := func(kind, id, sku, value string, partition int) *kgo.Record {
		headers := []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte(id)},
			{Key: "ce_source", Value: []byte("/drill")},
			{Key: "ce_type", Value: []byte("lotline.command.v1." + kind)},
		}
		return &kgo.Record{Topic: commands.Name, Partition: int32(partition) % commands.Partitions, Key: []byte(sku), Value: []byte(value), Headers: headers}
	}
	for n := 0; ; n++ {
		var records []*kgo.Record
		for i := range 10 * int(commands.Partitions) {
			sku, id := fmt.Sprintf("SHARED-%d", i%sharedSKUs), fmt.Sprintf("shared-%d-%d", n, i)
			if n == 0 && i < sharedSKUs {
				records = append(records, record("CreateBatch", "batch-"+sku, sku, fmt.Sprintf(`{"ref":"batch-%s","sku":%q,"qty":1000000,"eta":null}`, sku, sku), 0))
			}
			records = append(records, record("Allocate", id, sku, fmt.Sprintf(`{"orderid":%q,"sku":%q,"qty":1}`, id, sku), i))
		}
		if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return fmt.Errorf("send orders for shared SKUs: %w", err)
		}
		select {
		case <-stop:
			return nil
		case <-time.After(lookEvery):
		}
	}
}
