package trial

import (
	"bytes"
	"context"
	"fmt"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/lotline/lotline/tests/bench/usage"
)

// Allocated is what an allocator has allocated since it began.
type Allocated struct {
	Bytes, Objects float64 // counted by Go's runtime
	Profile        []byte  // by where, sampled; for pprof
}

// Allocated asks the first allocator, which is at rest.
func (a *Allocators) Allocated(ctx context.Context) (of Allocated, err error) {
	if of.Profile, err = usage.Get(ctx, "http://"+a.admin+"/debug/pprof/heap?gc=1"); err != nil { // the profile is as of the last collection
		return of, err
	}
	text, err := usage.Get(ctx, "http://"+a.admin+"/metrics")
	if err != nil {
		return of, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return of, fmt.Errorf("read an allocator's metrics: %w", err)
	}
	for name, into := range map[string]*float64{"go_memstats_alloc_bytes_total": &of.Bytes, "go_memstats_mallocs_total": &of.Objects} {
		family := families[name]
		if family == nil || len(family.Metric) != 1 {
			return of, fmt.Errorf("an allocator's metrics have no %s", name)
		}
		*into = family.Metric[0].GetCounter().GetValue()
	}
	return of, nil
}
