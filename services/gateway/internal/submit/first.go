package submit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/schemas"
)

// mayBeRepeat reports whether the allocator may have said that of a command which had its effect before: a repeat, or a
// line or batch that was there already.
func mayBeRepeat(outcome *Outcome) bool {
	return outcome.Type == schemas.EventCommandIgnored ||
		outcome.Type == schemas.EventCommandRejected && (outcome.Reason == "conflicting_line" || outcome.Reason == "conflicting_batch")
}

// firstOutcome returns what became of the first command of the key, whose outcome may be the given one. It is nil if only
// the allocator knows that there was another.
func (f *sending) firstOutcome(ctx context.Context, outcome *Outcome) (*Outcome, error) {
	rejected := outcome.Type == schemas.EventCommandRejected
	switch {
	case outcome == f.first:
		return outcome, nil
	case rejected && outcome.Reason == "conflicting_command":
		return nil, ErrKeyReused
	case mayBeRepeat(outcome):
	case !rejected && !couldBeOf(&f.request.Command, outcome): // it was sent at another gateway meanwhile
		return nil, ErrKeyReused
	default:
		return outcome, nil
	}
	// Only the first outcome tells.
	if f.first == nil {
		within, cancel := context.WithDeadline(ctx, f.deadline)
		defer cancel()
		f.first = <-f.lookFor(within)
	}
	switch {
	case f.first == nil && outcome.Reason == "duplicate_command":
		return nil, nil
	case f.first == nil, f.first.Type == outcome.Type:
		return outcome, nil
	case rejected, !couldBeOf(&f.request.Command, f.first):
		return nil, ErrKeyReused
	default:
		return f.first, nil
	}
}

// lookFor asks the read model for the key's first outcome until it is there or ctx ends; then it gives nil, as it does at
// once if the read model keeps no outcomes.
func (f *sending) lookFor(ctx context.Context) <-chan *Outcome {
	found := make(chan *Outcome, 1)
	go func() {
		for {
			outcome, err := f.pastOutcome(ctx)
			if outcome != nil || ctx.Err() != nil || errors.Is(err, readmodel.ErrNotKept) {
				found <- outcome
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(pastInterval):
			}
		}
	}()
	return found
}

// pastOutcome is the key's first outcome, nil if the read model does not have it or does not answer.
func (f *sending) pastOutcome(ctx context.Context) (*Outcome, error) {
	found, err := f.keys.past.Outcome(ctx, f.request.Key)
	if err != nil || found.CommandSource != Source {
		return nil, err
	}
	event := schemas.Event{
		SKU: found.SKU, Version: found.Version, CommandID: found.CommandID, CommandSource: found.CommandSource, Last: true,
		OrderID: found.OrderID, BatchRef: found.BatchRef, Reason: found.Reason, Message: found.Message,
	}
	for event.Type = schemas.EventBatchCreated; event.Type.String() != found.Type; event.Type++ {
		if event.Type == schemas.EventCommandRejected {
			return nil, nil // of a newer allocator
		}
	}
	return &Outcome{Event: event, Offset: -1}, nil
}

// couldBeOf reports whether an outcome is of a command like cmd, as far as outcomes tell. The read model's tell neither the
// quantity nor the eta.
func couldBeOf(cmd *schemas.Command, outcome *Outcome) bool {
	return sameNames(cmd, outcome) && (outcome.Offset < 0 || sameContent(cmd, outcome))
}

func sameNames(cmd *schemas.Command, outcome *Outcome) bool {
	if outcome.SKU != cmd.SKU {
		return false
	}
	sameBatch, sameLine := outcome.BatchRef == cmd.Ref, outcome.OrderID == cmd.OrderID
	switch outcome.Type {
	case schemas.EventCommandIgnored, schemas.EventCommandRejected:
		return sameLine && (cmd.Ref == "" || sameBatch)
	case schemas.EventBatchCreated:
		return cmd.Type == schemas.CommandCreateBatch && sameBatch
	case schemas.EventBatchQuantityChanged:
		return cmd.Type == schemas.CommandChangeBatchQuantity && sameBatch
	case schemas.EventDeallocated:
		if cmd.Type == schemas.CommandDeallocate {
			return sameLine
		}
	case schemas.EventAllocated, schemas.EventOutOfStock:
		if cmd.Type == schemas.CommandAllocate {
			return sameLine
		}
	default:
		panic(fmt.Sprintf("an outcome of type %s", outcome.Type))
	}
	return cmd.Type == schemas.CommandChangeBatchQuantity // which moves lines, and ends with the last one
}

// sameContent reports whether an event of the tail, with the names of cmd, has the rest of what cmd asks for too. If two
// gateways send one key at once, for one line but with two quantities, both hear of the first. It allocates 3 units; who asked
// for 7 must not take that for its own, which the allocator rejects.
func sameContent(cmd *schemas.Command, event *Outcome) bool {
	switch event.Type {
	case schemas.EventBatchCreated:
		return event.BatchQty == cmd.Qty && event.ETA == cmd.ETA
	case schemas.EventBatchQuantityChanged: // its eta is the batch's, which the command does not name
		return event.BatchQty == cmd.Qty
	case schemas.EventAllocated, schemas.EventOutOfStock:
		if cmd.Type == schemas.CommandAllocate { // which has one event
			return event.Seq == 0 && event.Qty == cmd.Qty
		}
		// The line that a cut moved last has a quantity of its own, but says what the batch has that it came to: if that is
		// the batch that was cut, what the command made of it. The cut itself comes before it.
		return event.Seq > 0 && (event.BatchRef != cmd.Ref || event.BatchQty == cmd.Qty)
	default: // the others have nothing of their command but names
		return true
	}
}
