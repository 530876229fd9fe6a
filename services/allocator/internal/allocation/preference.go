package allocation

import (
	"cmp"
	"strings"
)

// batch is a Batch and its place among the SKU's open batches: an AVL tree in the
// order of preference, in which each node knows the most that any batch below it
// has available. So the first batch with enough is found in O(log batches), and
// no order of arrival can degrade the tree.
type batch struct {
	Batch
	work *work // what the chunk knows of it; nil = untouched

	left, right *batch
	height      int8  // 0 = not in the tree
	most        int32 // available in one batch of this subtree
}

func (n *batch) name() string { return n.Ref }

// prefer orders batches: in stock first, then the earliest eta, then the one
// created first. No two batches of a SKU are created at the same version.
func prefer(a, b *batch) int {
	return cmp.Or(strings.Compare(a.ETA, b.ETA), cmp.Compare(a.CreatedVersion, b.CreatedVersion))
}

// first returns the most preferred batch below n with qty available, or nil.
func (n *batch) first(qty int32) *batch {
	for n != nil && n.most >= qty {
		switch {
		case n.left != nil && n.left.most >= qty:
			n = n.left
		case n.Available >= qty:
			return n
		default:
			n = n.right
		}
	}
	return nil
}

// insert returns the tree n with b, which is in no tree.
func (n *batch) insert(b *batch) *batch {
	if n == nil {
		b.left, b.right = nil, nil
		return b.balanced()
	}
	if prefer(b, n) < 0 {
		n.left = n.left.insert(b)
	} else {
		n.right = n.right.insert(b)
	}
	return n.balanced()
}

// remove returns the tree n without b, which is in it.
func (n *batch) remove(b *batch) *batch {
	switch order := prefer(b, n); {
	case order < 0:
		n.left = n.left.remove(b)
	case order > 0:
		n.right = n.right.remove(b)
	case n.right == nil:
		return n.left
	default:
		next := n.right
		for next.left != nil {
			next = next.left
		}
		right := n.right.remove(next)
		next.left, next.right = n.left, right
		n = next
	}
	return n.balanced()
}

// refresh brings the tree n up to date after the availability of b changed.
func (n *batch) refresh(b *batch) {
	switch order := prefer(b, n); {
	case order < 0:
		n.left.refresh(b)
	case order > 0:
		n.right.refresh(b)
	}
	n.summarize()
}

// balanced returns the root of n's subtree after it was brought into balance.
func (n *batch) balanced() *batch {
	n.summarize()
	switch tilt := n.left.tall() - n.right.tall(); {
	case tilt > 1:
		if n.left.left.tall() < n.left.right.tall() {
			n.left = n.left.rotatedLeft()
		}
		return n.rotatedRight()
	case tilt < -1:
		if n.right.right.tall() < n.right.left.tall() {
			n.right = n.right.rotatedRight()
		}
		return n.rotatedLeft()
	}
	return n
}

func (n *batch) rotatedLeft() *batch {
	root := n.right
	n.right, root.left = root.left, n
	n.summarize()
	root.summarize()
	return root
}

func (n *batch) rotatedRight() *batch {
	root := n.left
	n.left, root.right = root.right, n
	n.summarize()
	root.summarize()
	return root
}

func (n *batch) tall() int8 {
	if n == nil {
		return 0
	}
	return n.height
}

func (n *batch) summarize() {
	n.height, n.most = 1+max(n.left.tall(), n.right.tall()), n.Available
	if n.left != nil {
		n.most = max(n.most, n.left.most)
	}
	if n.right != nil {
		n.most = max(n.most, n.right.most)
	}
}
