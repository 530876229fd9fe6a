package reads

import "hash/maphash"

const marksBits = 1 << 20

// marks is which SKUs were added, in an eighth of a MiB however many they are. It may have some that were not.
type marks struct {
	seed maphash.Seed
	bits []uint64
}

func newMarks() marks { return marks{seed: maphash.MakeSeed(), bits: make([]uint64, marksBits/64)} }

func (m marks) add(sku string) {
	i := m.bit(sku)
	m.bits[i/64] |= 1 << (i % 64)
}

func (m marks) has(sku string) bool {
	i := m.bit(sku)
	return m.bits[i/64]&(1<<(i%64)) != 0
}

func (m marks) bit(sku string) uint64 { return maphash.String(m.seed, sku) % marksBits }

func (m marks) clear() { clear(m.bits) }
