package cloudevents_test

import (
	"testing"
	"time"

	"github.com/lotline/lotline/pkg/cloudevents"
)

// BenchmarkHeaders and BenchmarkParse are what every event and every command pays.
func BenchmarkHeaders(b *testing.B) {
	e := attributes()
	b.ReportAllocs()
	for b.Loop() {
		cloudevents.Headers(e)
	}
}

func BenchmarkParse(b *testing.B) {
	headers := cloudevents.Headers(attributes())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cloudevents.Parse(headers); err != nil {
			b.Fatal(err)
		}
	}
}

func attributes() cloudevents.Envelope {
	return cloudevents.Envelope{
		ID: "7f1f0a52-6f5a-4b0e-9d0e-9a6f0f8f3c11", Source: "/shop/checkout", Type: "lotline.command.v1.Allocate", ContentType: "application/json",
		Time: time.Date(2031, 1, 2, 5, 4, 5, 678e6, time.UTC),
	}
}
