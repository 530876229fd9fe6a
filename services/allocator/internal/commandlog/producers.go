package commandlog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// producer makes transactions. A session has two, whose turn comes one after the other: a transaction that is ended has its
// markers a few milliseconds later, and until then its producer can begin no other. The other one's is open meanwhile, and has
// its records.
type producer struct {
	id     string // transactional
	client *kgo.Client
	last   ending // its last transaction; not to be touched while it is settled beside
}

// transactionalIDs are those of the producers. The first is as in builds that had one; an instance's id has no slash, so that the second is
// no other worker's first.
func (c *Config) transactionalIDs() [2]string {
	return [2]string{c.TransactionalID, c.TransactionalID + "/2"}
}

// pair are the producers of a session.
type pair [2]*producer

// inTurn are the producer whose transaction is open, or the next, and the other one.
func (s *session) inTurn() (mine, other *producer) { return s.producers[s.turn], s.producers[1-s.turn] }

// newProducers makes them, which fences what is left of an earlier life of their ids. Where the cluster does not add a group to a
// transaction by itself, they do not speak as if it did. The caller closes them, also after an error.
func (w *Worker) newProducers(ctx context.Context, groupAddedByOffsets bool, hook kgo.Hook) (made pair, err error) {
	versions := kversion.Stable() // as by default
	if !groupAddedByOffsets {
		versions.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4)
	}
	for i, id := range w.config.transactionalIDs() {
		client, err := kgo.NewClient(append(slices.Clone(w.config.Client),
			kgo.MaxVersions(versions),
			kgo.WithHooks(hook),
			kgo.TransactionalID(id),
			kgo.TransactionTimeout(w.config.TransactionTimeout),
			// The last transaction's markers are waited for before the next is begun, and yet the broker may say that they are being
			// written; the default pause of 20 ms would be most of the latency.
			kgo.ConcurrentTransactionsBackoff(time.Millisecond),
			kgo.ProducerLinger(0),
			kgo.ProducerBatchMaxBytesFn(w.batchMaxBytes),
		)...)
		if err != nil {
			return made, fmt.Errorf("configure the Kafka client: %w", err)
		}
		made[i] = &producer{id: id, client: client}
		if _, _, err := client.ProducerID(ctx); err != nil {
			return made, fmt.Errorf("take over the transactional id %s: %w", id, err)
		}
	}
	return made, nil
}

// groupAddedByOffsets says whether the cluster adds a group to a transaction by itself when its offsets come (KIP-890, Kafka 4.0).
// Elsewhere it is added before.
func groupAddedByOffsets(ctx context.Context, client *kgo.Client) (bool, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "lotline", "1"
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return false, fmt.Errorf("ask for the features of the Kafka cluster: %w", err)
	}
	return slices.ContainsFunc(resp.FinalizedFeatures, func(f kmsg.ApiVersionsResponseFinalizedFeature) bool {
		return f.Name == "transaction.version" && f.MaxVersionLevel >= 2
	}), nil
}

func (p pair) close() {
	for _, made := range p {
		if made != nil {
			made.client.Close()
		}
	}
}

const (
	settleFirst = 2 * time.Millisecond // markers are hardly there before
	settleSlow  = time.Second          // markers that took longer may have waited for a leader, and been given up
)

// ending is the last transaction of a producer, until it is known to have all its markers.
type ending struct {
	pending bool
	cuts    int64     // connections lost before it ended
	waiting time.Time // since when its markers are known not to be there; zero = not known
}

// settled waits until a transaction may be begun: its producer's last one has its markers. It is the price of a request a transaction,
// beside what else is done: that the coordinator takes the next one proves only that it noted the last as complete. A marker is
// forgotten only by a broker that restarts or has lost a partition's leader, so it looks no further where the connections lasted
// and it was quick. Where they did not, it looks after the other producer's last one too, now that nothing is open; and where the
// last could not be committed for that: a broker that takes long with all markers would have each aborted for the one before.
func (s *session) settled(ctx context.Context) error {
	mine, other := s.inTurn()
	if err := s.awaitMarkers(ctx, mine, false); err != nil || !s.oneByOne && s.cuts.Load() == other.last.cuts {
		return err
	}
	s.settleNoLonger()
	return s.awaitMarkers(ctx, other, false)
}

// settledBefore waits until a transaction that is open may be committed: the one before it, which is the other producer's, has its
// markers. So there are never two commits that lack some: the group's offsets are those of the later one, and a broker can forget
// markers of one only. What is open hides what follows it from consumers, as long as it takes: as for Postgres, half of the time after
// which the broker would end it, and then it is aborted.
func (s *session) settledBefore(ctx context.Context, opened time.Time) error {
	defer s.nameWait()()
	waiting, cancel := context.WithDeadline(ctx, opened.Add(s.config.openMax()))
	defer cancel()
	asked := context.AfterFunc(waiting, s.stopSettling)
	s.settling.Wait()
	asked()
	_, other := s.inTurn()
	err := s.awaitMarkers(waiting, other, true)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return errInDoubt
	}
	return err
}

// errInDoubt is of markers that a broker may have forgotten, which is not looked into while another transaction is open: its offsets
// pass for some that the broker forgot.
var errInDoubt = errors.New("a connection was lost, or the markers of the last transaction took long: whether all of them are there is looked into first")

// awaitMarkers waits until a producer's last transaction has its markers; open says that another may be open.
func (s *session) awaitMarkers(ctx context.Context, p *producer, open bool) error {
	since := time.Now()
	for pause := settlePauseMin; p.last.pending; pause = min(2*pause, settlePauseMax) {
		last, err := s.lastTransaction(ctx, p.id)
		if err != nil {
			return err
		}
		switch doubt := s.cuts.Load() != p.last.cuts || !p.last.waiting.IsZero() && time.Since(p.last.waiting) > settleSlow; {
		case !ended(last.State):
			if p.last.waiting.IsZero() {
				p.last.waiting = time.Now()
			}
		case !doubt:
			p.last.pending = false
			return nil
		case open:
			return errInDoubt
		default:
			left, err := s.leftOpen(ctx, last.ProducerID)
			if err != nil {
				return err
			}
			p.last.pending = left.any()
			// Offsets are unstable also while another worker's transaction runs.
			if len(left.partitions) > 0 || left.offsets && time.Since(since) > settleMax {
				return errLeftOpen
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}

// settleBeside asks for the markers of the last transaction while the next commands are polled, decided and sent: that is then
// committed at once, or nearly. What goes wrong is left to that, where it goes wrong again.
func (s *session) settleBeside(ctx context.Context) {
	s.settleNoLonger()
	_, other := s.inTurn()
	asking, cancel := s.grace(ctx)
	s.stopSettling = cancel
	s.settling.Go(func() {
		defer cancel()
		if other.last.pending {
			time.Sleep(settleFirst)
		}
		_ = s.awaitMarkers(asking, other, true)
	})
}

// settleNoLonger ends what settleBeside began.
func (s *session) settleNoLonger() {
	s.stopSettling()
	s.settling.Wait()
}

// cuts counts lost connections to brokers. It is a hook of the client.
type cuts struct{ atomic.Int64 }

func (c *cuts) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { c.Add(1) }
