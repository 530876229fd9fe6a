package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lotline/lotline/pkg/readmodel"
)

const readConnectionsMax = 16

// Reader asks the read model in Redis. It is a readmodel.Reader.
type Reader struct {
	client *goredis.Client
	prefix string
	live   atomic.Pointer[string] // the generation that was live at the last question; nil: not asked yet
}

var _ readmodel.Reader = (*Reader)(nil)

// NewReader returns a reader whose questions may each take as long as timeout. It connects when it is first asked.
func NewReader(cfg Config, timeout time.Duration) *Reader {
	return &Reader{client: cfg.connect(timeout, readConnectionsMax), prefix: cfg.Prefix}
}

// Name is redis.
func (r *Reader) Name() string { return name }

// Close closes the connections.
func (r *Reader) Close() error { return r.client.Close() }

// Check asks every question once, about nobody: ids are not empty.
func (r *Reader) Check(ctx context.Context) error {
	nobody := []string{""}
	for _, ask := range []func() error{
		func() error { _, err := r.Orders(ctx, nobody); return err },
		func() error { _, err := r.Lines(ctx, []readmodel.LineKey{{}}); return err },
		func() error { _, err := r.Availability(ctx, nobody); return err },
		func() error { _, err := r.Outcomes(ctx, nobody); return err },
		func() error { _, err := r.SKUs(ctx, nobody); return err },
	} {
		if err := ask(); err != nil {
			return err
		}
	}
	return nil
}

// Orders returns where the lines of orders are allocated; of one that has too many any, as many as show it.
func (r *Reader) Orders(ctx context.Context, orderIDs []string) (map[string][]readmodel.Allocation, error) {
	found := map[string][]readmodel.Allocation{}
	if len(orderIDs) == 0 {
		return found, nil
	}
	var answer []any
	if err := r.ask(func(k keys) (live string, err error) {
		names := make([]string, 0, len(orderIDs)+1)
		for _, id := range orderIDs {
			names = append(names, k.order(id))
		}
		if answer, err = ordersScript.Run(ctx, r.client, append(names, k.live()), readmodel.OrderLinesMax+1).Slice(); err != nil {
			return "", fmt.Errorf("ask for %d orders: %w", len(orderIDs), err)
		}
		live, _ = answer[0].(string)
		return live, nil
	}); err != nil {
		return nil, err
	}
	for i, id := range orderIDs {
		fields, _ := answer[i+1].([]any)
		if len(fields) == 0 {
			continue
		}
		lines := make([]readmodel.Allocation, 0, len(fields)/2)
		for j := 0; j+1 < len(fields); j += 2 {
			sku, _ := fields[j].(string)
			text, _ := fields[j+1].(string)
			l, err := parseLine(id, sku, text)
			if err != nil {
				return nil, err
			}
			lines = append(lines, l.Allocation())
		}
		slices.SortFunc(lines, func(a, b readmodel.Allocation) int { return strings.Compare(a.SKU, b.SKU) })
		found[id] = lines
	}
	return found, nil
}

// parseLine reads what the writer wrote: "version qty eta ref".
func parseLine(orderID, sku, text string) (readmodel.Line, error) {
	words := strings.SplitN(text, " ", 4)
	if len(words) != 4 {
		return readmodel.Line{}, fmt.Errorf("line %s of order %s is %q, which is not what this build writes", sku, orderID, text)
	}
	numbers, err := integers(words[:2])
	if err != nil {
		return readmodel.Line{}, fmt.Errorf("read line %s of order %s: %w", sku, orderID, err)
	}
	return readmodel.Line{
		OrderID: orderID, SKU: sku, BatchRef: words[3], Qty: int32(numbers[1]), ETA: etaOf(words[2]), Version: uint64(numbers[0]),
	}, nil
}

func integers(words []string) ([]int64, error) {
	numbers := make([]int64, len(words))
	for i, word := range words {
		var err error
		if numbers[i], err = strconv.ParseInt(word, 10, 64); err != nil {
			return nil, err
		}
	}
	return numbers, nil
}

// Lines returns single order lines.
func (r *Reader) Lines(ctx context.Context, lines []readmodel.LineKey) (map[readmodel.LineKey]readmodel.Line, error) {
	found := map[readmodel.LineKey]readmodel.Line{}
	err := each(ctx, r, lines, func(pipe goredis.Pipeliner, k keys, key readmodel.LineKey) *goredis.StringCmd {
		return pipe.HGet(ctx, k.order(key.OrderID), key.SKU)
	}, func(key readmodel.LineKey, text string) error {
		l, err := parseLine(key.OrderID, key.SKU, text)
		found[key] = l
		return err
	})
	return found, err
}

// Availability returns what is left of SKUs and their batches, of each of one moment.
func (r *Reader) Availability(ctx context.Context, skus []string) (map[string]readmodel.Availability, error) {
	found := map[string]readmodel.Availability{}
	err := each(ctx, r, skus, func(pipe goredis.Pipeliner, k keys, sku string) *goredis.MapStringStringCmd {
		return pipe.HGetAll(ctx, k.sku(sku))
	}, func(sku string, rows map[string]string) error {
		if _, known := rows[""]; !known { // the rows of its batches are there a moment sooner
			return nil
		}
		a, err := parseAvailability(sku, rows)
		found[sku] = a
		return err
	})
	return found, err
}

func parseAvailability(sku string, rows map[string]string) (readmodel.Availability, error) {
	a := readmodel.Availability{SKU: sku}
	for ref, text := range rows {
		words := strings.Split(text, " ")
		n := len(words)
		if ref != "" {
			n-- // the eta
		}
		numbers, err := integers(words[:n])
		switch {
		case err != nil || ref == "" && n != 2 || ref != "" && n != 3:
			return a, fmt.Errorf("row %q of sku %s is %q, which is not what this build writes", ref, sku, text)
		case ref == "":
			a.Version, a.Available = uint64(numbers[0]), numbers[1]
		default:
			a.Batches = append(a.Batches, readmodel.Batch{
				Ref: ref, Qty: int32(numbers[1]), Available: int32(numbers[2]), ETA: etaOf(words[3]), Version: uint64(numbers[0]),
			})
		}
	}
	slices.SortFunc(a.Batches, func(a, b readmodel.Batch) int {
		return cmp.Or(strings.Compare(a.ETA, b.ETA), strings.Compare(a.Ref, b.Ref))
	})
	return a, nil
}

// SKUs returns which SKUs have a batch of a ref. Members of one score are in the order of their bytes.
func (r *Reader) SKUs(ctx context.Context, refs []string) (map[string][]string, error) {
	found := map[string][]string{}
	err := each(ctx, r, refs, func(pipe goredis.Pipeliner, k keys, ref string) *goredis.StringSliceCmd {
		return pipe.ZRange(ctx, k.ref(ref), 0, readmodel.RefSKUsMax-1)
	}, func(ref string, skus []string) error {
		if len(skus) > 0 {
			found[ref] = skus
		}
		return nil
	})
	return found, err
}

// Outcomes returns what became of commands.
func (r *Reader) Outcomes(ctx context.Context, commandIDs []string) (map[string]readmodel.Outcome, error) {
	found := map[string]readmodel.Outcome{}
	err := each(ctx, r, commandIDs, func(pipe goredis.Pipeliner, k keys, id string) *goredis.StringCmd {
		return pipe.Get(ctx, k.outcome(id))
	}, func(id, text string) error {
		words := strings.SplitN(text, " ", 4)
		var o readmodel.Outcome
		if err := json.Unmarshal([]byte(words[len(words)-1]), &o); err != nil {
			return fmt.Errorf("read the outcome of command %s: %w", id, err)
		}
		o.EventTime = o.EventTime.UTC()
		found[id] = o
		return nil
	})
	return found, err
}

// result is the answer to one command of a pipeline.
type result[V any] interface {
	goredis.Cmder
	Result() (V, error)
}

// switchesMax is how often readers may be switched while one question is answered.
const switchesMax = 5

// ask puts a question to the live generation. do returns which that was once it had been answered: if it is another one, the
// answer may be of rows that are no longer kept up to date, and the question is put again. Every question says so itself,
// since a reader that looked it up before would ask once more each time.
func (r *Reader) ask(do func(k keys) (live string, err error)) error {
	generation := firstGeneration
	if known := r.live.Load(); known != nil {
		generation = *known
	}
	for range switchesMax {
		live, err := do(keys{r.prefix, generation})
		if err != nil || live == generation {
			return err
		}
		generation = live
		r.live.Store(&live)
	}
	return errors.New("readers are switched from one generation to another all the time")
}

// each sends a command a key in one pipeline, and calls take for each answer that is there.
func each[K, V any, C result[V]](ctx context.Context, r *Reader, of []K, send func(goredis.Pipeliner, keys, K) C, take func(K, V) error) error {
	if len(of) == 0 {
		return nil
	}
	sent := make([]C, len(of))
	if err := r.ask(func(k keys) (string, error) {
		var live *goredis.StringCmd
		_, err := r.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
			for i, key := range of {
				sent[i] = send(pipe, k, key)
			}
			live = pipe.Get(ctx, k.live())
			return nil
		})
		if err != nil && err != goredis.Nil { //nolint:errorlint // the first error of the pipeline's commands, bare: Nil is no row
			return "", fmt.Errorf("ask for %d keys: %w", len(of), err)
		}
		return liveOf(live)
	}); err != nil {
		return err
	}
	for i, key := range of {
		value, err := sent[i].Result()
		if err == goredis.Nil { //nolint:errorlint // as above
			continue
		}
		if err != nil {
			return fmt.Errorf("ask for %d keys: %w", len(of), err)
		}
		if err := take(key, value); err != nil {
			return err
		}
	}
	return nil
}

// liveOf reads which generation is the live one.
func liveOf(answer *goredis.StringCmd) (string, error) {
	live, err := answer.Result()
	switch {
	case err == goredis.Nil: //nolint:errorlint // as above
		return firstGeneration, nil
	case err != nil:
		return "", fmt.Errorf("ask which generation is the live one: %w", err)
	}
	return live, nil
}
