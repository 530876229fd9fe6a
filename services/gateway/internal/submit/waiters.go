package submit

import "sync"

// Waiters are the commands whose outcome somebody waits for. The zero value is
// ready to use; its methods may be called concurrently.
type Waiters struct {
	mu      sync.Mutex
	waiting map[string]chan Outcome
}

// add registers a command id. The outcome arrives on the channel, at most once;
// forget must be called when nobody waits any more.
func (w *Waiters) add(id string) (outcome <-chan Outcome, forget func()) {
	// Room for one: whoever wakes a waiter must never wait for it.
	ch := make(chan Outcome, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[string]chan Outcome{}
	}
	w.waiting[id] = ch
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.waiting[id] == ch { // not somebody else's, with the same id
			delete(w.waiting, id)
		}
	}
}

// wake hands a command's last event to whoever waits for it. Only the first one
// counts.
func (w *Waiters) wake(o Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch, ok := w.waiting[o.CommandID]; ok {
		delete(w.waiting, o.CommandID)
		ch <- o
	}
}

func (w *Waiters) none() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) == 0
}
