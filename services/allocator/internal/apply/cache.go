package apply

// cache keeps the products that were used last. They are linked among themselves: a cache of any values, such as simplelru,
// takes as much for each again as a batch does.
type cache struct {
	max  int
	held map[string]*held
	ring held // its next is the one used last, its prev the one used longest ago
}

func newCache(most int) *cache {
	c := &cache{max: most}
	c.Purge()
	return c
}

// Purge forgets all.
func (c *cache) Purge() {
	c.held = make(map[string]*held)
	c.ring.prev, c.ring.next = &c.ring, &c.ring
}

// Len is how many there are.
func (c *cache) Len() int { return len(c.held) }

// Contains says whether a SKU is there, and does not count as a use.
func (c *cache) Contains(sku string) bool { return c.held[sku] != nil }

// Get returns nil if the SKU is not there.
func (c *cache) Get(sku string) *held {
	p := c.held[sku]
	if p != nil {
		p.unlink()
		c.ring.link(p)
	}
	return p
}

// Add keeps a product, in place of what there is of its SKU.
func (c *cache) Add(p *held) {
	c.Remove(p.SKU)
	if len(c.held) == c.max {
		c.Remove(c.ring.prev.SKU)
	}
	c.held[p.SKU] = p
	c.ring.link(p)
}

// Remove forgets a SKU, if it is there.
func (c *cache) Remove(sku string) {
	if p := c.held[sku]; p != nil {
		delete(c.held, sku)
		p.unlink()
	}
}

// link puts another behind p.
func (p *held) link(other *held) {
	other.prev, other.next = p, p.next
	p.next.prev = other
	p.next = other
}

func (p *held) unlink() {
	p.prev.next, p.next.prev = p.next, p.prev
	p.prev, p.next = nil, nil
}
