package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/reads"
)

// afterWaitMin is enough to ask once how far the read model is, also for those who do not want to wait.
const afterWaitMin = 250 * time.Millisecond

// afterHeader says in a request what ?after= says in its address.
const afterHeader = "Lotline-After"

// after answers a question that comes with a token once the read model has all that the token covers. It waits a bounded
// time; an answer that is older than the token is never given.
func (a *api) after(handle func(*http.Request) answer) func(*http.Request) answer {
	return func(r *http.Request) answer {
		token, fault := afterToken(r)
		if fault != "" {
			return refused(http.StatusBadRequest, fault)
		}
		if len(token) == 0 {
			return handle(r)
		}
		wait, applied := a.preferredOr(a.ReadWait, r.Header)
		if applied == "respond-async" { // a question has no other answer than its own
			wait, applied = a.ReadWait, ""
		}
		ready := a.waits.bounded(func(r *http.Request) answer {
			ctx, cancel := context.WithTimeout(r.Context(), max(wait, afterWaitMin))
			defer cancel()
			if err := a.Projected.Wait(ctx, token); err != nil {
				return unavailable("The read model does not have yet what the token covers; try again").with("Preference-Applied", applied)
			}
			return answer{status: http.StatusOK}
		})(r)
		if ready.status != http.StatusOK {
			return ready
		}
		// The tail may have come less far than the projectors, and with it what is answered from memory.
		r = r.WithContext(reads.Anew(r.Context()))
		// A cache must not keep what was asked for with a token in a header for those who have none, or an older one.
		return handle(r).with("Preference-Applied", applied).with("Cache-Control", "no-store")
	}
}

// afterToken joins the tokens of the query and of the header. Every question passes here, so what a query cannot be read for is refused
// here too.
func afterToken(r *http.Request) (projected.Token, string) {
	given := r.Header[afterHeader]
	if r.URL.RawQuery != "" {
		// r.URL.Query leaves out what it cannot read: a token, and with it the wait; or a sku.
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return nil, "The query cannot be read: in it, & divides pairs and % begins an escape, so as text they are %26 and %25, and ; is %3B"
		}
		given = append(query["after"], given...)
	}
	if len(given) == 0 {
		return nil, ""
	}
	token := projected.Token{}
	for _, text := range strings.FieldsFunc(strings.Join(given, ","), func(c rune) bool { return c == ',' || c == ' ' }) {
		one, err := projected.ParseToken(text)
		if err != nil {
			return nil, fmt.Sprintf("The token %.20q is none that was given out here; after takes what an answer had as %s", text, tokenHeader)
		}
		for partition, offset := range one {
			token.Add(partition, offset)
		}
	}
	return token, ""
}

// cacheable lets caches keep an answer for as long as the settings say.
func (a *api) cacheable(ans answer) answer {
	if a.CacheMaxAge <= 0 {
		return ans
	}
	control := fmt.Sprintf("max-age=%d", int(a.CacheMaxAge/time.Second))
	if a.Keys != nil {
		control = "private, " + control // a cache that many share knows nothing of keys
	}
	if a.CacheStale > 0 {
		control += fmt.Sprintf(", stale-while-revalidate=%d", int(a.CacheStale/time.Second))
	}
	// What a cache has kept must not answer whoever has seen something newer.
	return ans.with("Cache-Control", control).with("Vary", afterHeader)
}

// A tag makes an ETag of what an answer is about: names, each with the version that says all about it.
type tag struct{ text []byte }

// tagBytes is enough for what most answers are about.
const tagBytes = 128

// tagFormat changes when bodies do: the same versions are then another text.
const tagFormat = 1

// availability adds a SKU with its batches: an answer may be torn, with batches that are older than their SKU.
func (t *tag) availability(sku string, a *readmodel.Availability) {
	t.add(sku, a.Version)
	for i := range a.Batches {
		t.add(a.Batches[i].Ref, a.Batches[i].Version)
	}
}

func (t *tag) add(name string, version uint64) {
	if t.text == nil {
		t.text = make([]byte, 0, tagBytes)
	}
	t.text = binary.AppendUvarint(append(binary.AppendUvarint(t.text, uint64(len(name))), name...), version)
}

func (t *tag) String() string {
	sum := sha256.Sum256(append(t.text, tagFormat))
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// known reports whether a client's If-None-Match has the tag.
func known(ifNoneMatch []string, etag string) bool {
	for one := range strings.SplitSeq(strings.Join(ifNoneMatch, ","), ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == etag || one == "*" {
			return true
		}
	}
	return false
}
