// Package confirm guards what cannot be undone: a dry run shows what would be done and a token for exactly that, and
// only the token does it. If what there is to do has changed meanwhile, the token is another, and nothing is done.
//
// It imports the standard library only. What answers dead letters and what moves partitions call it, in the operator's command and in the gateway.
package confirm

import (
	"crypto/sha256"
	"encoding/hex"
)

// Digest stands for what was shown, in order. The zero value stands for nothing.
type Digest struct{ sum [sha256.Size]byte }

// Add adds a thing that was shown, named so that no other is named alike.
func (d *Digest) Add(what string) {
	d.sum = sha256.Sum256(append(d.sum[:], what...))
}

// Token is what an operator repeats to have it done.
func (d *Digest) Token() string { return hex.EncodeToString(d.sum[:5]) }
