package allocation

import "slices"

// refsFew is how many batches are looked through one by one.
const refsFew = 8

// refs are a product's batches by ref. Nearly all SKUs have a few, for which a map would take more memory than all that is
// known of them.
type refs struct {
	few  []*batch
	many map[string]*batch // all of them, in place of few, once there were more
}

// get returns nil if there is none.
func (r *refs) get(ref string) *batch {
	if r.many != nil {
		return r.many[ref]
	}
	for _, b := range r.few {
		if b.Ref == ref {
			return b
		}
	}
	return nil
}

// add takes a batch whose ref is not there.
func (r *refs) add(b *batch) {
	switch {
	case r.many != nil:
		r.many[b.Ref] = b
	case len(r.few) < refsFew:
		r.few = append(r.few, b)
	default:
		r.many = make(map[string]*batch, 2*refsFew)
		for _, other := range append(r.few, b) {
			r.many[other.Ref] = other
		}
		r.few = nil
	}
}

func (r *refs) remove(b *batch) {
	if r.many != nil {
		delete(r.many, b.Ref)
		return
	}
	at := slices.Index(r.few, b)
	r.few = slices.Delete(r.few, at, at+1)
}
