// Package projected knows how far the read model is: the projectors' committed offsets. With it a client that has seen an
// outcome can ask questions whose answers have it too.
//
// The gateway's HTTP API hands out Tokens and calls Watcher, the service's root wires it. It imports Kafka's client.
package projected

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
)

const (
	tokenVersion = 1
	// partitionsMax bounds the partitions that a token may name: as many as one request may have commands, each with its
	// outcome in another.
	partitionsMax = 1000
	// TokenBytesMax is the longest that a token can be: so many partitions, each 14 bytes at most, in base64.
	TokenBytesMax = 19 << 10
)

var errToken = errors.New("this is no token that was given out here")

// Token is a place in the events: of some partitions, the offset of an event that was seen. For clients it is a text
// without a meaning.
type Token map[int32]int64

// Add lets the token cover one more event.
func (t Token) Add(partition int32, offset int64) {
	if known, ok := t[partition]; !ok || offset > known {
		t[partition] = offset
	}
}

// String is the token's text, "" of an empty one.
func (t Token) String() string {
	if len(t) == 0 {
		return ""
	}
	text := []byte{tokenVersion}
	for _, partition := range slices.Sorted(maps.Keys(t)) {
		text = binary.AppendUvarint(binary.AppendUvarint(text, uint64(partition)), uint64(t[partition]))
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// ParseToken reads what String made.
func ParseToken(text string) (Token, error) {
	if len(text) > TokenBytesMax {
		return nil, errToken
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) < 3 || raw[0] != tokenVersion {
		return nil, errToken
	}
	token := Token{}
	for raw = raw[1:]; len(raw) > 0; {
		partition, n := binary.Uvarint(raw)
		if n <= 0 || partition > math.MaxInt32 || len(token) == partitionsMax {
			return nil, errToken
		}
		offset, m := binary.Uvarint(raw[n:])
		if m <= 0 || offset > math.MaxInt64-1 {
			return nil, errToken
		}
		token.Add(int32(partition), int64(offset))
		raw = raw[n+m:]
	}
	return token, nil
}
