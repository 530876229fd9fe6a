package submit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
	"golang.org/x/sync/errgroup"
)

const (
	// keysMax bounds the keys that are remembered: some ten megabytes.
	keysMax = 16_384
	// keysAtOnceMax bounds how many keys of one call are looked up at the same time: what one question may have.
	keysAtOnceMax = readmodel.KeysMax
	// pastWait bounds the look for a key's first outcome before its command is sent: writes go on without the read model.
	pastWait = 300 * time.Millisecond
	// pastWaitMax is how long a call's look-ups take in all, if it has twice keysAtOnceMax keys, the most that the API takes:
	// the last begins when the others have had their slots for twice pastWait.
	pastWaitMax = 3 * pastWait
	// pastInterval is how often the read model is asked for an outcome that it does not have yet.
	pastInterval = 50 * time.Millisecond
)

// Past knows what became of commands that were sent before; see reads.Reader.
type Past interface {
	Outcome(ctx context.Context, commandID string) (readmodel.Outcome, error)
}

// key is what is known here of a key. Its fields are guarded by keys.
type key struct {
	command  schemas.Command
	busy     chan struct{} // closed when its sending is finished; nil = none is under way
	accepted chan struct{} // closed when Kafka has the command
	outcome  *Outcome      // of the first command
	// What the tail says of the command, once it has been sent and until its outcome is known, whether anybody waits or not: a
	// client that left asks again, and the read model may keep no outcomes.
	said   <-chan Outcome
	forget func()   // has the tail say nothing; nil if said is
	unsure *Outcome // what the tail has said, if it may not be the first command's
}

// deaf lets go of what the tail may say.
func (e *key) deaf() {
	if e.forget != nil {
		e.forget()
		e.said, e.forget = nil, nil
	}
}

// keys remembers the last that were used. It is a short way only: what it has forgotten, or another gateway has seen,
// the allocator knows, and the read model.
type keys struct {
	past Past
	mu   sync.Mutex
	lru  *simplelru.LRU[string, *key]
}

func newKeys(past Past) *keys {
	lru, err := simplelru.NewLRU(keysMax, func(_ string, entry *key) {
		if entry.busy == nil { // or whoever is at it lets go of it, in release
			entry.deaf()
		}
	})
	if err != nil {
		panic(err) // its size is the constant above
	}
	return &keys{past: past, lru: lru}
}

// claim returns the key, for the caller to work on unless its outcome is known or somebody else is at it (mine is false).
func (k *keys) claim(id string, cmd schemas.Command) (entry *key, mine bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	entry, known := k.lru.Get(id)
	if !known {
		entry = &key{command: cmd, accepted: make(chan struct{})}
		k.lru.Add(id, entry)
	}
	if entry.command != cmd {
		return nil, false, ErrKeyReused
	}
	if entry.busy != nil || entry.outcome != nil {
		return entry, false, nil
	}
	entry.busy = make(chan struct{})
	return entry, true, nil
}

// state returns what is known of a key: its outcome, or the channel of who is busy with it, or neither.
func (k *keys) state(entry *key) (outcome *Outcome, busy <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return entry.outcome, entry.busy
}

// listen returns what the tail says of a key's command: what it has said since the first time, or will.
func (k *keys) listen(id string, entry *key, waiters *Waiters) <-chan Outcome {
	k.mu.Lock()
	defer k.mu.Unlock()
	if entry.said == nil {
		entry.said, entry.forget = waiters.add(id)
	}
	return entry.said
}

// unsure returns what the tail has said of a key's command, if it may not be the first.
func (k *keys) unsure(entry *key) *Outcome {
	k.mu.Lock()
	defer k.mu.Unlock()
	return entry.unsure
}

func (k *keys) accept(entry *key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !closed(entry.accepted) {
		close(entry.accepted)
	}
}

func (k *keys) accepted(entry *key) bool { return closed(entry.accepted) }

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// release ends the work on a key. One that turned out to be another command's is forgotten.
func (k *keys) release(id string, entry *key, outcome, unsure *Outcome, reused bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	entry.outcome, entry.unsure = outcome, unsure
	close(entry.busy)
	entry.busy = nil
	current, _ := k.lru.Peek(id)
	if outcome != nil || current != entry {
		entry.deaf()
	}
	if current == entry && reused {
		k.lru.Remove(id)
	}
}

// claim settles those whose key was used before, and takes the others' keys, in their order: who is first is sent while
// later keys are looked up. Once a look-up has taken all its time no other is begun, and their commands are sent all the
// same: a read model that hangs holds a call up for little more than pastWait. One that answers, if slowly, is asked for
// every key. Unasked, a command that was refused at first could have its effect when it is sent again.
func (s *Submitter) claim(ctx context.Context, sendings []*sending) {
	var hangs atomic.Bool
	var group errgroup.Group
	group.SetLimit(keysAtOnceMax)
	for _, one := range sendings {
		if one.claimed != nil {
			group.Go(func() error {
				defer close(one.claimed)
				one.claim(ctx, &hangs)
				return nil
			})
		}
	}
	_ = group.Wait() // the results have the errors
}

// claim looks for what became of the key, unless the read model hangs, which it finds out too. It settles what is not to be
// sent.
func (f *sending) claim(ctx context.Context, hangs *atomic.Bool) {
	for {
		entry, mine, err := f.keys.claim(f.request.Key, f.request.Command)
		if err != nil {
			f.settle(nil, err)
			return
		}
		if mine {
			f.key = entry
			break
		}
		if f.join(ctx, entry) {
			return
		}
	}
	if f.keys.accepted(f.key) {
		return // begin will not send it again
	}
	if !hangs.Load() {
		within, cancel := context.WithTimeout(ctx, pastWait)
		defer cancel()
		var err error
		if f.first, err = f.pastOutcome(within); err != nil && within.Err() != nil {
			hangs.Store(true)
		}
	}
	switch {
	case f.first == nil && ctx.Err() != nil:
		// Its client left, which ends a look-up like a read model that hangs. What was refused at first, "Invalid sku", might
		// have its effect now; nothing is lost if it is not sent, as nobody was told that it was.
		f.release(ctx, nil, ctx.Err())
	case f.first == nil:
	case !couldBeOf(&f.request.Command, f.first):
		f.release(ctx, nil, ErrKeyReused)
	case f.first.Type == schemas.EventCommandRejected, f.first.Type == schemas.EventCommandIgnored:
		// The allocator keeps the ids of commands that did something. This one did nothing, but might now.
		f.release(ctx, f.first, nil)
	}
}

// join settles the sending with what another of its key, which is under way, comes to. False means that the other came to
// nothing, so that this one is to try.
func (f *sending) join(ctx context.Context, entry *key) bool {
	outcome, busy := f.keys.state(entry)
	if outcome != nil {
		f.settle(outcome, nil)
		return true
	}
	if busy == nil {
		return false
	}
	select { // nobody is told that a command was accepted before it was
	case <-busy:
		return false
	case <-entry.accepted:
	case <-time.After(pastWaitMax + f.ackWait):
		f.settle(nil, fmt.Errorf("%w: another with its key is on the way", ErrUnacknowledged))
		return true
	case <-ctx.Done():
		f.settle(nil, ctx.Err())
		return true
	}
	within, cancel := context.WithDeadline(ctx, f.deadline)
	defer cancel()
	select {
	case <-busy:
		return false
	case <-f.stop:
	case <-within.Done():
	}
	f.settle(nil, ctx.Err())
	return true
}

// release settles the sending and lets go of its key. What the allocator says of a repeat is not what became of the
// command: that was said the first time. Where only that is to be had it is told, and not remembered as the outcome: the next of
// the key may learn more, and judges it anew.
func (f *sending) release(ctx context.Context, outcome *Outcome, err error) {
	remembered, unsure := outcome, (*Outcome)(nil)
	if outcome != nil && err == nil {
		said := outcome
		outcome, err = f.firstOutcome(ctx, outcome)
		if remembered = outcome; mayBeRepeat(said) && f.first == nil {
			remembered, unsure = nil, said
		}
	}
	f.keys.release(f.request.Key, f.key, remembered, unsure, errors.Is(err, ErrKeyReused))
	f.settle(outcome, err)
}
