package projected

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// interval is how often the offsets are asked for while somebody waits.
	interval     = 20 * time.Millisecond
	fetchTimeout = time.Second
	warnInterval = 10 * time.Second
)

// ErrBehind says that the read model does not have what a token covers yet.
var ErrBehind = errors.New("the read model is behind the token")

// Committed returns the committed offsets of a group on a topic, by partition. The group's user needs DESCRIBE on it.
func Committed(client *kgo.Client, topic, group string) func(context.Context) (map[int32]int64, error) {
	adm := kadm.NewClient(client)
	return func(ctx context.Context) (map[int32]int64, error) {
		fetched, err := adm.FetchOffsets(ctx, group)
		if err == nil {
			err = fetched.Error()
		}
		if errors.Is(err, kerr.GroupIDNotFound) {
			return nil, nil // no projector has committed anything yet
		}
		if err != nil {
			return nil, fmt.Errorf("fetch the offsets of group %s: %w", group, err)
		}
		offsets := map[int32]int64{}
		for partition, o := range fetched.Offsets()[topic] {
			offsets[partition] = o.At
		}
		return offsets, nil
	}
}

// Watcher tells when the read model has what tokens cover. All who wait share its requests, and it sleeps while nobody
// does. Its methods may be called concurrently.
type Watcher struct {
	fetch func(context.Context) (map[int32]int64, error)
	stop  <-chan struct{}
	log   *slog.Logger

	mu      sync.Mutex
	waiting []*waiter
	busy    bool          // watch runs
	arrived chan struct{} // holds one if somebody came since watch last looked

	warned time.Time // watch's own
}

type waiter struct {
	token Token
	done  chan struct{}
}

// NewWatcher returns a Watcher that has the committed offsets from fetch, see Committed. A nil fetch is for a store that
// has each event before it is published. Once stop is closed nobody waits any more.
func NewWatcher(fetch func(context.Context) (map[int32]int64, error), stop <-chan struct{}, log *slog.Logger) *Watcher {
	return &Watcher{fetch: fetch, stop: stop, log: log, arrived: make(chan struct{}, 1)}
}

// Wait returns nil once the read model has all that token covers, by offsets that were asked for after Wait was called: what
// was true before need not be, after a rebuild. A question that is asked then has an answer with all of it. If ctx ends, or the
// process is told to stop, first the error is ErrBehind.
func (w *Watcher) Wait(ctx context.Context, token Token) error {
	if w.fetch == nil || len(token) == 0 {
		return nil
	}
	me := w.join(token)
	select {
	case <-me.done:
		return nil
	case <-ctx.Done():
	case <-w.stop:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(other *waiter) bool { return other == me })
	return ErrBehind
}

// join adds a waiter, and sees to it that somebody asks.
func (w *Watcher) join(token Token) *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	me := &waiter{token: token, done: make(chan struct{})}
	w.waiting = append(w.waiting, me)
	if !w.busy {
		w.busy = true
		go w.watch()
	}
	select {
	case w.arrived <- struct{}{}:
	default:
	}
	return me
}

// watch asks until nobody waits. Only those who came before it asked may go by the answer.
func (w *Watcher) watch() {
	for {
		select {
		case <-w.arrived:
		default:
		}
		w.mu.Lock()
		before := slices.Clone(w.waiting)
		if len(before) == 0 {
			w.busy = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()

		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		offsets, err := w.fetch(ctx)
		cancel()
		if err != nil && time.Since(w.warned) > warnInterval {
			w.warned = time.Now()
			w.log.Warn("could not find out how far the read model is: questions with a token wait", "error", err)
		}
		if w.wake(before, offsets) {
			continue
		}
		select {
		case <-w.arrived:
		case <-time.After(interval):
		}
	}
}

// wake ends the wait of those whose token is covered, and reports whether those are all.
func (w *Watcher) wake(before []*waiter, offsets map[int32]int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	covered := map[*waiter]bool{}
	for _, one := range before {
		if one.token.covered(offsets) {
			covered[one] = true
			close(one.done)
		}
	}
	w.waiting = slices.DeleteFunc(w.waiting, func(one *waiter) bool { return covered[one] })
	return len(covered) == len(before)
}

// covered reports whether committed offsets, of what is to be read next, are past the token.
func (t Token) covered(committed map[int32]int64) bool {
	for partition, offset := range t {
		if committed[partition] <= offset {
			return false
		}
	}
	return true
}
