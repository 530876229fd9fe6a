package reads

import (
	"time"

	"github.com/coocood/freecache"
)

const (
	// entriesPercent of the memory is for the entries. The rest is for their index, which takes 30 to 80 bytes for each.
	entriesPercent = 45
	// entriesBytesMin is the least that freecache takes for entries.
	entriesBytesMin = 512 << 10
)

// entries has the packed entries by SKU, in a few hundred pieces of memory without a pointer in them. The collector has nothing to look
// through there: a hundred thousand entries in a map, each a few objects, took it 20 ms of the processor each time.
// What was asked for least lately makes room. get and count may be called concurrently; the others, one after the other.
type entries struct {
	cache    *freecache.Cache
	bytesMax int64  // of the entries
	buffer   []byte // of the entry that is packed
	sets     int64  // how many entries were set
	setBytes int64  // what they took
}

// sinceStart is a clock that nobody sets.
type sinceStart time.Time

func (s sinceStart) Now() uint32 { return uint32(time.Since(time.Time(s)) / time.Second) }

func newEntries(bytesMax int64) *entries {
	bytesMax = max(entriesBytesMin, bytesMax/100*entriesPercent)
	return &entries{cache: freecache.NewCacheCustomTimer(int(bytesMax), sinceStart(time.Now())), bytesMax: bytesMax}
}

func (s *entries) get(sku string) (p packed, ok bool) {
	err := s.cache.GetFn([]byte(sku), func(b []byte) error {
		p = packed(b)
		return nil
	})
	return p, err == nil
}

// peek is get without being a question: an entry is asked for no later for it.
func (s *entries) peek(sku string) (p packed, ok bool) {
	err := s.cache.PeekFn([]byte(sku), func(b []byte) error {
		p = packed(b)
		return nil
	})
	return p, err == nil
}

// set keeps an entry in place of the SKU's last, or none if it is larger than a thousandth of the memory.
func (s *entries) set(e *entry) {
	s.buffer = e.appendTo(s.buffer[:0])
	sku := []byte(e.SKU)
	if s.cache.Set(sku, s.buffer, 0) != nil { // and the last is still there
		s.cache.Del(sku)
		return
	}
	s.sets++
	s.setBytes += int64(freecache.ENTRY_HDR_SIZE + len(sku) + len(s.buffer))
}

func (s *entries) remove(sku string) { s.cache.Del([]byte(sku)) }

// clear takes new memory, as much as there was.
func (s *entries) clear() {
	if s.count() > 0 {
		s.cache.Clear()
	}
}

func (s *entries) count() int64 { return s.cache.EntryCount() }

// bytes is about what the entries take: each as much as all that were set took on average.
func (s *entries) bytes() int64 { return s.count() * (s.setBytes / max(1, s.sets)) }

// isFull reports whether more would soon take the place of what there is.
func (s *entries) isFull() bool { return s.bytes() > s.bytesMax/10*8 }
