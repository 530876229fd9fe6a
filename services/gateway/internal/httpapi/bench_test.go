package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/lotline/lotline/pkg/readmodel"
)

// nowhere is where an answer goes whose writing is not measured.
type nowhere struct {
	header http.Header
	status int
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) WriteHeader(status int)      { w.status = status }
func (w *nowhere) Write(b []byte) (int, error) { return len(b), nil }

// What an answer from memory costs besides net/http and the look into memory.
func BenchmarkAvailability(b *testing.B) {
	f := &fake{availability: map[string]readmodel.Availability{"SKU-7": {
		SKU: "SKU-7", Version: 3, Available: 999_998, Batches: []readmodel.Batch{{Ref: "batch", Qty: 1_000_000, Available: 999_998, Version: 3}},
	}}}
	handler := f.handler(io.Discard)
	request := httptest.NewRequest(http.MethodGet, "/availability/SKU-7", http.NoBody)
	b.ReportAllocs()
	for b.Loop() {
		w := &nowhere{header: http.Header{}}
		handler.ServeHTTP(w, request)
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}
