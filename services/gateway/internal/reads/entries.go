package reads

import (
	"encoding/binary"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	entryShards = 16
	// blockData makes a block 96 bytes: an SKU with one batch is one block.
	blockData  = 76
	blockBytes = 96
	// indexBytes is what an entry takes in its shard's index, at the most: that is half empty when it has just grown.
	indexBytes = 40
	// entryShare: an entry has so much of its shard at the most, so that it does not take the place of most others.
	entryShare = 8
)

// entries has the packed entries by SKU, in memory without pointers that is taken at once: the collector has nothing to look through, where
// a hundred thousand entries in a map, each of a few objects, took it 20 ms of the processor each time. An entry is a list of blocks
// of one size, so it grows and shrinks in place, whatever is free is room, and what is taken is known. Who has not been asked
// for since the last time round makes room (the clock algorithm).
//
// Libraries do one or the other: otter, ristretto and the like keep objects; of those that keep bytes, fastcache and bigcache write each
// change of an entry behind all others, which takes the room of some that did not change, and freecache drops what is older than average on the
// way around its rings, also where there is room, has an index that names chosen for it can grow without a bound, and says of neither
// how much is taken.
//
// Its methods may be called concurrently, but set only by one at a time.
type entries struct {
	seed   maphash.Seed // who chooses SKUs does not choose where they come
	shards [entryShards]shard
	text   []byte // of the entry that is set
}

type shard struct {
	mu     sync.RWMutex
	first  map[uint64]uint32 // by the hash of its SKU, the number of an entry's first block
	blocks []block           // number 0 is no block
	fresh  uint32            // from this one on they were never used, and their memory is not there yet
	free   uint32            // the first of those that are free again, a list
	freed  int               // how many these are
	hand   uint32            // of the clock
}

type block struct {
	hash   uint64
	next   uint32        // of the same entry, or of those that are free
	length uint32        // of the entry, if this is its first block; else 0
	asked  atomic.Uint32 // 1: since the hand was here
	data   [blockData]byte
}

func newEntries(bytesMax int64) *entries {
	e := &entries{seed: maphash.MakeSeed()}
	for i := range e.shards {
		e.shards[i].blocks = make([]block, 1+bytesMax/entryShards/(blockBytes+indexBytes))
		e.shards[i].clear()
	}
	return e
}

func (e *entries) of(sku string) (s *shard, hash uint64) {
	hash = maphash.String(e.seed, sku)
	return &e.shards[hash%entryShards], hash
}

// get is for a question: what it finds is kept for longer.
func (e *entries) get(sku string) (packed, bool) { return e.find(sku, true) }

// peek is for whoever only needs to know.
func (e *entries) peek(sku string) (packed, bool) { return e.find(sku, false) }

func (e *entries) find(sku string, asked bool) (packed, bool) {
	s, hash := e.of(sku)
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, ok := s.first[hash]
	if !ok {
		return "", false
	}
	b := &s.blocks[at]
	var text strings.Builder
	text.Grow(int(b.length))
	for left := int(b.length); left > 0; left -= blockData {
		text.Write(s.blocks[at].data[:min(left, blockData)])
		at = s.blocks[at].next
	}
	rest := unpacking(text.String())
	if rest.text() != sku { // whose hash is the same
		return "", false
	}
	if asked && b.asked.Load() == 0 {
		b.asked.Store(1)
	}
	return packed(rest), true
}

// set keeps an entry in place of the SKU's last, or none if it is too large.
func (e *entries) set(a *entry) {
	e.text = append(binary.AppendUvarint(e.text[:0], uint64(len(a.SKU))), a.SKU...)
	e.text = a.appendTo(e.text)
	s, hash := e.of(a.SKU)
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.remove(hash)
	blocks := (len(e.text) + blockData - 1) / blockData
	if blocks > len(s.blocks)/entryShare {
		return
	}
	for s.room() < blocks {
		s.evict()
	}
	s.first[hash] = s.put(hash, e.text, asked)
}

func (e *entries) remove(sku string) {
	s, hash := e.of(sku)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(hash)
}

func (e *entries) clear() {
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		s.clear()
		s.mu.Unlock()
	}
}

// usage is how many entries there are, the memory that they take, and how much of what there is for them that leaves, from 0 to 1.
func (e *entries) usage() (count int, bytes int64, room float64) {
	all, free := 0, 0
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.RLock()
		count, all, free = count+len(s.first), all+len(s.blocks)-1, free+s.room()
		s.mu.RUnlock()
	}
	return count, int64(all-free)*blockBytes + int64(count)*indexBytes, float64(free) / float64(all)
}

// What follows is for who holds mu.

func (s *shard) clear() {
	s.first, s.fresh, s.free, s.freed, s.hand = map[uint64]uint32{}, 1, 0, 0, 0
}

// room is how many blocks are free.
func (s *shard) room() int { return s.freed + len(s.blocks) - int(s.fresh) }

// remove also says whether it was asked for.
func (s *shard) remove(hash uint64) (asked uint32) {
	at, ok := s.first[hash]
	if !ok {
		return 0
	}
	delete(s.first, hash)
	asked = s.blocks[at].asked.Load()
	s.blocks[at].length = 0
	for at != 0 {
		b := &s.blocks[at]
		at, b.next, s.free = b.next, s.free, at
		s.freed++
	}
	return asked
}

// evict removes the next entry that nobody has asked for. There must be entries.
func (s *shard) evict() {
	for {
		if s.hand++; s.hand >= s.fresh {
			s.hand = 1
		}
		if b := &s.blocks[s.hand]; b.length > 0 && b.asked.Swap(0) == 0 {
			s.remove(b.hash)
			return
		}
	}
}

// put writes an entry, for which there must be room, and returns its first block.
func (s *shard) put(hash uint64, text []byte, asked uint32) (first uint32) {
	for at := (len(text) - 1) / blockData * blockData; at >= 0; at -= blockData { // from its end: each block has the number of the next
		number := s.free
		if number != 0 {
			s.free = s.blocks[number].next
			s.freed--
		} else {
			number = s.fresh
			s.fresh++
		}
		b := &s.blocks[number]
		b.next, b.length = first, 0
		copy(b.data[:], text[at:])
		first = number
	}
	b := &s.blocks[first]
	b.hash, b.length = hash, uint32(len(text))
	b.asked.Store(asked)
	return first
}
