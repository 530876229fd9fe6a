package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/topics"
)

const (
	mixedSKUs        = 200
	mixedBatches     = 4
	mixedAgainMax    = 5
	sqlstateDeadlock = " 40P01 " // as Postgres' log has it
)

// mixedProducers sends commands about the same SKUs with the partitioners of Kafka's Java client (murmur2) and of
// librdkafka (CRC32), so that two allocators decide them side by side: as a hundredth of the commands, then about nothing
// but such SKUs. It measures how fast they are published, beside commands of which no SKU is shared, and holds Postgres to
// never having seen a deadlock.
func mixedProducers(ctx context.Context, f *Field) error {
	log := f.hosts.servers[postgres].LogFile
	logged, err := os.Stat(log)
	if err != nil {
		return fmt.Errorf("look at Postgres' log: %w", err)
	}
	lines := f.during
	f.during = nil
	if err := f.send(ctx, lines); err != nil {
		return err
	}
	for _, part := range []struct {
		what    string
		percent int
	}{{"no SKU shared", 0}, {"1 % of the commands on shared SKUs", 1}, {"every SKU shared", 100}} {
		if err := f.mixed(ctx, part.what, f.options.Mixed, part.percent); err != nil {
			return err
		}
	}
	for again := 0; ; again++ {
		if met, err := f.met(ctx); met || err != nil || again == mixedAgainMax {
			return errors.Join(err, noDeadlocks(log, logged.Size()))
		}
		if err := f.mixed(ctx, "every SKU shared, again", f.options.Mixed, 100); err != nil {
			return err
		}
	}
}

// met says whether allocators were in each other's way, and what that came to: few commands on a quick machine may be decided
// by one after the other.
func (f *Field) met(ctx context.Context) (bool, error) {
	shared, err := f.sharedSKUs(ctx)
	if err != nil {
		return false, err
	}
	waits, err := f.metric(ctx, "lotline_allocator_order_wait_seconds_count")
	if err != nil {
		return false, err
	}
	waited, err := f.metric(ctx, "lotline_allocator_order_wait_seconds_sum")
	if err != nil {
		return false, err
	}
	refusals, err := f.metric(ctx, "lotline_allocator_refusals_total")
	if err != nil || shared == 0 || waits == 0 || refusals == 0 {
		return false, err
	}
	f.took("murmur2 and CRC32 producers", "%d SKUs were allocated over several partitions; %.0f commits were refused and made again, and events waited for those of others %.0f times, %.2f s each",
		shared, refusals, waits, waited/waits)
	return true, nil
}

// mixed sends commands of which a percentage is about shared SKUs, and measures until they are published.
func (f *Field) mixed(ctx context.Context, what string, commands, percent int) error {
	murmur2, err := f.producer(kgo.StickyKeyPartitioner(nil))
	if err != nil {
		return err
	}
	defer murmur2.Close()
	consistent, err := f.producer(kgo.StickyKeyPartitioner(func(key []byte, n int) int { return int(crc32.ChecksumIEEE(key) % uint32(n)) }))
	if err != nil {
		return err
	}
	defer consistent.Close()
	rng := rand.New(rand.NewPCG(f.options.Seed, uint64(percent)))
	m := &mix{topic: topics.Declared(f.name).Commands.Name, run: fmt.Sprintf("m%d", percent), rng: rng}
	batches := m.batches(commands)
	if err := murmur2.ProduceSync(ctx, batches...).FirstErr(); err != nil {
		return fmt.Errorf("send batches: %w", err)
	}
	if _, err := f.awaitPublished(ctx, time.Now()); err != nil {
		return err
	}
	began := time.Now()
	var failed kgo.FirstErrPromise
	for range commands {
		shared := rng.IntN(100) < percent
		client := murmur2
		if shared && rng.IntN(2) == 0 {
			client = consistent
		}
		client.Produce(ctx, m.command(shared), failed.Promise())
	}
	if err := errors.Join(murmur2.Flush(ctx), consistent.Flush(ctx), failed.Err()); err != nil {
		return fmt.Errorf("send commands: %w", err)
	}
	sent := time.Since(began)
	took, err := f.awaitPublished(ctx, began)
	if err != nil {
		return err
	}
	rate := fmt.Sprintf("%s: %.0f commands/s (%d, sent within %s)", what, float64(commands)/took.Seconds(), commands, sent.Round(time.Millisecond))
	f.measured = append(f.measured, rate)
	fmt.Fprintln(f.out, " ", rate)
	return nil
}

func (f *Field) producer(partitioner kgo.Partitioner) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(f.target.Kafka.Opts("mixed-producers"), kgo.RecordPartitioner(partitioner), kgo.MaxBufferedRecords(50_000))...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client: %w", err)
	}
	return client, nil
}

// mix makes commands about SKUs that are shared, and about others.
type mix struct {
	topic, run string
	rng        *rand.Rand
	count      int
	orders     [][2]string // order and SKU of some lines
}

func (m *mix) sku(shared bool, i int) string {
	if shared {
		return fmt.Sprintf("%s-SHARED-%03d", m.run, i)
	}
	return fmt.Sprintf("%s-ALONE-%03d", m.run, i)
}

func (m *mix) batches(commands int) (records []*kgo.Record) {
	for i := range mixedSKUs {
		for b := range mixedBatches {
			for _, shared := range []bool{true, false} {
				sku := m.sku(shared, i)
				records = append(records, m.record("CreateBatch", sku, fmt.Sprintf(`{"ref":"b%d","sku":"%s","qty":%d,"eta":null}`, b, sku, commands/mixedSKUs+1)))
			}
		}
	}
	return records
}

// command is an Allocate, or now and then a cut or a Deallocate.
func (m *mix) command(shared bool) *kgo.Record {
	sku := m.sku(shared, m.rng.IntN(mixedSKUs))
	switch dice := m.rng.IntN(100); {
	case dice < 1:
		return m.record("ChangeBatchQuantity", sku, fmt.Sprintf(`{"ref":"b%d","sku":"%s","qty":%d}`, m.rng.IntN(mixedBatches), sku, m.rng.IntN(100)))
	case dice < 3 && len(m.orders) > 0:
		line := m.orders[m.rng.IntN(len(m.orders))]
		return m.record("Deallocate", line[1], fmt.Sprintf(`{"orderid":"%s","sku":"%s"}`, line[0], line[1]))
	}
	order := m.run + "-" + strconv.Itoa(m.count)
	if shared && len(m.orders) < 1000 {
		m.orders = append(m.orders, [2]string{order, sku})
	}
	return m.record("Allocate", sku, fmt.Sprintf(`{"orderid":"%s","sku":"%s","qty":%d}`, order, sku, 1+m.rng.IntN(3)))
}

func (m *mix) record(kind, sku, value string) *kgo.Record {
	m.count++
	return &kgo.Record{Topic: m.topic, Key: []byte(sku), Value: []byte(value), Headers: cloudevents.Headers(cloudevents.Envelope{
		ID: m.run + "-" + strconv.Itoa(m.count), Source: "mixed-producers", Type: "lotline.command.v1." + kind,
	})}
}

// sharedSKUs counts the SKUs whose lines were allocated by commands of several partitions.
func (f *Field) sharedSKUs(ctx context.Context) (n int, err error) {
	conn, err := pgx.Connect(ctx, f.target.PostgresURL)
	if err != nil {
		return 0, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM order_lines GROUP BY sku HAVING count(DISTINCT command_partition) > 1) AS shared`).Scan(&n)
	return n, err
}

// metric adds up a metric without labels over the allocators.
func (f *Field) metric(ctx context.Context, name string) (sum float64, err error) {
	for _, process := range processes {
		if process[0] != "allocator" {
			continue
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.admin[process[0]+" "+process[1]]+"/metrics", nil)
		if err != nil {
			return 0, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, fmt.Errorf("read the metrics of %s %s: %w", process[0], process[1], err)
		}
		defer response.Body.Close()
		found := false
		for scan := bufio.NewScanner(response.Body); scan.Scan(); {
			if text, ok := strings.CutPrefix(scan.Text(), name+" "); ok {
				value, err := strconv.ParseFloat(text, 64)
				if err != nil {
					return 0, fmt.Errorf("read the metric %s: %w", name, err)
				}
				sum, found = sum+value, true
			}
		}
		if !found {
			return 0, fmt.Errorf("%s %s has no metric %s", process[0], process[1], name)
		}
	}
	return sum, nil
}

// noDeadlocks reads Postgres' log from an offset on: a deadlock is an error there, also if whoever met it tried again.
func noDeadlocks(path string, from int64) error {
	log, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read Postgres' log: %w", err)
	}
	if _, after, found := strings.Cut(string(log[from:]), sqlstateDeadlock); found {
		return fmt.Errorf("there was a deadlock in Postgres: %s", clip(after))
	}
	return nil
}
