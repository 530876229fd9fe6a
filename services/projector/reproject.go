package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/clickhouse"
	"github.com/lotline/lotline/topics"

	"github.com/lotline/lotline/services/projector/internal/eventlog"
)

const (
	// reprojectedMax bounds the events that Reproject holds in memory.
	reprojectedMax = 2_000_000
	// returnedMax bounds the notes among which Reproject looks for those of its events. More are left to the next time.
	returnedMax = 10_000
	// refusedMax bounds the events of a block that Reproject sets aside. If more are refused, it is the table that is not as it should be.
	refusedMax = 1000
)

// Reproject takes some SKUs out of the read model and projects them again, from all events that the topic has and from
// those that only the read model's log of events still has. It returns how many the topic had. Readers find the SKUs
// missing, or as they once were, until it is done. Of what was refused it takes back the notes whose events it has written:
// not one whose event the topic has no more, or that came too late for it. What is refused now it sets aside, writes all else, and says so
// in an error at the end.
//
// The topic's events are in memory before anything is deleted: between the deletion and a reading after it the topic's
// retention could take the only other copy. If it fails half way, or its process dies, run it again soon: what was deleted
// and not written again is in the topic alone until then, and what the topic's retention takes before the next run is lost
// to the read model for good. What only the read model's log had is never deleted.
//
// A projector may run meanwhile. The rows it writes before the deletion ends can be deleted with the rest, and so what
// came in the meantime is read after the deletion. What it writes later stays, and has versions of its own.
func Reproject(ctx context.Context, kafka kafkaclient.Config, to clickhouseclient.Config, skus []string) (events int, err error) {
	if err := errors.Join(kafka.Validate(), to.Validate()); err != nil {
		return 0, err
	}
	writer, err := clickhouse.NewWriter(to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	topic, opts := topics.Declared(kafka.TopicPrefix).Events.Name, kafka.Opts("lotline-projector")
	starts, err := eventlog.Starts(ctx, topic, opts)
	if err != nil {
		return 0, err
	}
	var blocks [][]readmodel.Record
	ends, err := eventlog.Replay(ctx, topic, skus, starts, opts, func(b []readmodel.Record) error {
		if events += len(b); events > reprojectedMax {
			return fmt.Errorf("these %d SKUs have more than %d events: take fewer at once", len(skus), reprojectedMax)
		}
		blocks = append(blocks, b)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the events of %d SKUs: %w", len(skus), err)
	}
	if err := writer.Forget(ctx, skus, starts); err != nil {
		return 0, err
	}
	written := make(map[string]bool)
	var refused []readmodel.Aside
	write := func(b []readmodel.Record) error {
		asides, err := applyOrSetAside(ctx, writer, b)
		for i := range b {
			written[b[i].ID] = true
		}
		for _, a := range asides {
			delete(written, a.EventID)
		}
		refused = append(refused, asides...)
		return err
	}
	for _, b := range blocks {
		if err := write(b); err != nil {
			return events, fmt.Errorf("project %d SKUs again: %w", len(skus), err)
		}
	}
	if _, err := eventlog.Replay(ctx, topic, skus, ends, opts, func(b []readmodel.Record) error {
		events += len(b)
		return write(b)
	}); err != nil {
		return events, fmt.Errorf("project what came for %d SKUs meanwhile: %w", len(skus), err)
	}
	noted, _, err := writer.Asides(ctx, readmodel.Aside{}, returnedMax)
	if err != nil {
		return events, err
	}
	if err := writer.Returned(ctx, slices.DeleteFunc(noted, func(a readmodel.Aside) bool { return !written[a.EventID] })); err != nil {
		return events, err
	}
	if len(refused) > 0 {
		return events, fmt.Errorf("%d events are refused and set aside, and all others of these %d SKUs are there; mend the cause and run it again: %s",
			len(refused), len(skus), refused[0].Reason)
	}
	return events, nil
}

// Refused returns the SKUs that have events which are noted as refused, also those whose events have come since: no one but Reproject
// takes such notes back. They are sorted, of the first 10,000 notes.
func Refused(ctx context.Context, in clickhouseclient.Config) (skus []string, err error) {
	writer, err := clickhouse.NewWriter(in)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	noted, _, err := writer.Asides(ctx, readmodel.Aside{}, returnedMax)
	for _, a := range noted {
		if a.What == readmodel.AsideRefused {
			skus = append(skus, a.SKU)
		}
	}
	slices.Sort(skus)
	return slices.Compact(skus), err
}

// applyOrSetAside writes a block but for what the store refuses for what is in it, which it notes and returns: their SKUs' other events
// were taken away, and nobody else brings them back.
func applyOrSetAside(ctx context.Context, to *clickhouse.Writer, block []readmodel.Record) ([]readmodel.Aside, error) {
	err := apply(ctx, to, block)
	if refused := new(readmodel.RefusedError); !errors.As(err, &refused) {
		return nil, err
	}
	asides, err := eventlog.Sift(ctx, block, err, refusedMax, func(ctx context.Context, b []readmodel.Record) error { return apply(ctx, to, b) })
	return asides, errors.Join(err, to.SetAside(ctx, asides))
}

// apply writes a block, however long that takes, unless the store refuses it for what is in it.
func apply(ctx context.Context, to readmodel.Writer, block []readmodel.Record) error {
	return fault.Retry(ctx, slog.Default(), "write a block to "+to.Name(), func(ctx context.Context) error {
		err := to.Apply(ctx, block)
		if refused := new(readmodel.RefusedError); errors.As(err, &refused) {
			return fault.Permanent(err)
		}
		return err
	})
}
