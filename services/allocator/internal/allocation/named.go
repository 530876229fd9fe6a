package allocation

import (
	"iter"
	"maps"
	"slices"
)

// namedFew is how many values are looked through one by one.
const namedFew = 8

// named are values by name: a product's batches by ref, a chunk's lines by order. Nearly all SKUs have a few, for which a map
// would take more memory than all that is known of them.
type named[V interface {
	comparable
	name() string
}] struct {
	few  []V
	many map[string]V // all of them, in place of few, once there were more
}

// get returns the zero value if there is none.
func (n *named[V]) get(name string) (v V) {
	if n.many != nil {
		return n.many[name]
	}
	if at := n.at(name); at >= 0 {
		v = n.few[at]
	}
	return v
}

// put takes the place of a value with the same name.
func (n *named[V]) put(v V) {
	if n.many != nil {
		n.many[v.name()] = v
		return
	}
	switch at := n.at(v.name()); {
	case at >= 0:
		n.few[at] = v
	case len(n.few) < namedFew:
		n.few = append(n.few, v)
	default:
		n.many = make(map[string]V, 2*namedFew)
		for _, other := range append(n.few, v) {
			n.many[other.name()] = other
		}
		n.few = nil
	}
}

func (n *named[V]) remove(v V) {
	if n.many != nil {
		delete(n.many, v.name())
		return
	}
	at := slices.Index(n.few, v)
	n.few = slices.Delete(n.few, at, at+1)
}

// all are the values in no order.
func (n *named[V]) all() iter.Seq[V] {
	if n.many != nil {
		return maps.Values(n.many)
	}
	return slices.Values(n.few)
}

func (n *named[V]) at(name string) int {
	return slices.IndexFunc(n.few, func(v V) bool { return v.name() == name })
}
