package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lotline/lotline/pkg/readmodel"
)

var _ readmodel.Ledger = (*Writer)(nil)

// classify says of a script's error what it asks for. Redis checks no values: what it refuses is a row whose key somebody has
// given to something else.
func classify(err error) error {
	var said goredis.Error
	switch {
	case !errors.As(err, &said):
		return err
	case strings.Contains(said.Error(), "WRONGTYPE "): // before Redis 7 within the words about the script
		return &readmodel.RefusedError{Err: err}
	case strings.Contains(said.Error(), "OOM "):
		return &readmodel.OverloadedError{Err: err}
	default:
		return err
	}
}

// separator is in no id, and before all that is.
const separator = "\x00"

// asideOf names what is noted so that names are in the order of SKU, version and event.
func asideOf(a *readmodel.Aside) string {
	return strings.Join([]string{a.SKU, fmt.Sprintf("%020d", a.Version), a.EventID, a.What}, separator)
}

// SetAside notes what is lacking.
func (w *Writer) SetAside(ctx context.Context, what []readmodel.Aside) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	_, err := w.client.TxPipelined(ctx, func(pipe goredis.Pipeliner) error {
		for i := range what {
			text, err := json.Marshal(what[i])
			if err != nil {
				return err
			}
			pipe.ZAdd(ctx, w.keys.asides(), goredis.Z{Member: asideOf(&what[i])})
			pipe.HSet(ctx, w.keys.asideTexts(), asideOf(&what[i]), text)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note %d events in %s: %w", len(what), w.keys.asides(), err)
	}
	return nil
}

// Asides returns what is noted.
func (w *Writer) Asides(ctx context.Context, after readmodel.Aside, limit int) (noted []readmodel.Aside, all int, err error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	count, err := w.client.ZCard(ctx, w.keys.asides()).Result()
	if err != nil || count == 0 {
		return nil, 0, wrap(err, "count what %s has", w.keys.asides())
	}
	for last, more := asideOf(&after), true; more && len(noted) < limit; {
		wanted := limit - len(noted)
		names, err := w.client.ZRangeArgs(ctx, goredis.ZRangeArgs{Key: w.keys.asides(), ByLex: true, Start: "(" + last, Stop: "+", Count: int64(wanted)}).Result()
		if err != nil || len(names) == 0 {
			return noted, int(count), wrap(err, "read %s", w.keys.asides())
		}
		texts, err := w.client.HMGet(ctx, w.keys.asideTexts(), names...).Result()
		if err != nil {
			return nil, 0, wrap(err, "read %s", w.keys.asideTexts())
		}
		for i, text := range texts {
			text, there := text.(string)
			if !there {
				continue // taken back between the two questions; fewer than the limit would say that these are all
			}
			var a readmodel.Aside
			if err := json.Unmarshal([]byte(text), &a); err != nil {
				return nil, 0, wrap(err, "read what is noted as %q", names[i])
			}
			noted = append(noted, a)
		}
		last, more = names[len(names)-1], len(names) == wanted
	}
	return noted, int(count), nil
}

// Returned takes back some notes.
func (w *Writer) Returned(ctx context.Context, what []readmodel.Aside) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	_, err := w.client.TxPipelined(ctx, func(pipe goredis.Pipeliner) error {
		for i := range what {
			pipe.ZRem(ctx, w.keys.asides(), asideOf(&what[i]))
			pipe.HDel(ctx, w.keys.asideTexts(), asideOf(&what[i]))
		}
		return nil
	})
	return wrap(err, "take %d notes out of %s", len(what), w.keys.asides())
}

// missingSKUsMax is how many SKUs Missing asks for at once: all rows of each, of which a SKU with many batches has as many.
const missingSKUsMax = 16

// Missing returns those versions at which neither the SKU nor one of its batches is. No event is kept, so one may have come
// and been followed by others since: the topic knows.
func (w *Writer) Missing(ctx context.Context, of []readmodel.Aside, _ time.Time) (missing []readmodel.Aside, err error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	live, err := w.client.Get(ctx, w.keys.live()).Result()
	if errors.Is(err, goredis.Nil) {
		live, err = firstGeneration, nil
	}
	if err != nil {
		return nil, wrap(err, "ask which generation is live")
	}
	at := keys{prefix: w.keys.prefix, generation: live}
	there := make(map[string]map[uint64]bool) // of the versions that are asked for, by SKU
	for _, a := range of {
		if there[a.SKU] == nil {
			there[a.SKU] = make(map[uint64]bool)
		}
		there[a.SKU][a.Version] = false
	}
	for skus := range slices.Chunk(slices.Sorted(maps.Keys(there)), missingSKUsMax) {
		rows := make([]*goredis.StringSliceCmd, len(skus))
		if _, err := w.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
			for i, sku := range skus {
				rows[i] = pipe.HVals(ctx, at.sku(sku))
			}
			return nil
		}); err != nil {
			return nil, wrap(err, "look for events of %d SKUs", len(skus))
		}
		for i, sku := range skus {
			for _, row := range rows[i].Val() {
				digits, _, _ := strings.Cut(row, " ")
				if version, err := strconv.ParseUint(digits, 10, 64); err == nil {
					if _, wanted := there[sku][version]; wanted {
						there[sku][version] = true
					}
				}
			}
		}
	}
	for _, a := range of {
		if !there[a.SKU][a.Version] {
			missing = append(missing, a)
		}
	}
	return missing, nil
}

// wrap says what was attempted, if it failed.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
