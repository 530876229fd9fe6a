package trial

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Mixed is work that comes from two kinds of producers, whose partitioners disagree: Kafka's Java client hashes keys by
// murmur2, librdkafka by CRC32 unless it is told otherwise. The even SKUs are one's and the odd ones the other's, but for those
// that both send commands about, in turn: these come over two partitions, and so to two sessions, mostly.
type Mixed struct {
	SharedPercent int // of the SKUs, from 0 to 100
}

// mixedRows measure what SKUs that come over several partitions cost two processes.
func mixedRows(skus int) (rows []Row) {
	for _, part := range []struct {
		name    string
		percent int
	}{{"mixed producers with no SKU shared", 0}, {"mixed producers with 1 % of the SKUs shared", 1}, {"mixed producers with every SKU shared", 100}} {
		r := Base(skus)
		r.Name, r.Partitions, r.Allocators, r.Mixed = part.name, 12, 2, &Mixed{part.percent}
		rows = append(rows, r)
	}
	return rows
}

var murmur2 = kgo.StickyKeyPartitioner(nil).ForTopic("")

// Partition is the one of so many that a command comes over.
func (w *Work) Partition(c *Command, partitions int32) int32 {
	key := []byte(c.SKU)
	if w.Mixed != nil && w.Mixed.crc32(c, w.SKUs) {
		return int32(crc32.ChecksumIEEE(key) % uint32(partitions))
	}
	return int32(murmur2.Partition(&kgo.Record{Key: key}, int(partitions)))
}

// crc32 says whether a command is librdkafka's.
func (m *Mixed) crc32(c *Command, skus int) bool {
	var sku, turn int
	_, err := fmt.Sscanf(c.SKU, skuFormat, &sku)
	if err == nil && sku*100 < m.SharedPercent*skus {
		_, err = fmt.Sscanf(c.ID, commandPrefix+"%d", &turn)
		return err == nil && turn%2 == 1 // its batches are the other's
	}
	return sku%2 == 1
}

const goneMax = 10 * time.Second

// CheckDeadlocks fails if there was a deadlock in Postgres, also one after which all was done again. A backend counts its own
// when it ends at the latest, so the allocators must have stopped.
func (s *Site) CheckDeadlocks(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	ctx, cancel := context.WithTimeout(ctx, goneMax)
	defer cancel()
	var others, deadlocks int
	for {
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&others); err != nil {
			return errors.Join(err, fmt.Errorf("%d connections to Postgres are left", others))
		}
		if others > 0 {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err := conn.QueryRow(ctx, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks); err != nil {
			return err
		}
		if deadlocks > 0 {
			return fmt.Errorf("Postgres met %d deadlocks", deadlocks)
		}
		return nil
	}
}
