package trial

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
)

// Row is one shape of the work: which SKUs commands are about, in which state, over how many partitions.
type Row struct {
	Name       string
	Partitions int32 // of commands and of events
	SKUs       int
	Spread     Spread
	Batches    int // open ones of each SKU
	Lines      int // order lines of other SKUs that Postgres has already
	Encoding   schemas.Encoding
	Cold       bool // nothing of a SKU is in the allocator's memory before its first command
	Ascending  bool // orders' ids ascend, as numbers, ULIDs and UUIDs of version 7 do; otherwise they come in no order
	Allocators int  // processes at the least
	Mixed      *Mixed
}

// Spread is how commands spread over SKUs.
type Spread string

// The spreads.
const (
	Uniform Spread = "uniform"
	Zipf    Spread = "zipf" // exponent 1.1
	Hot     Spread = "hot"  // one SKU has all
)

const zipfExponent = 1.1

// Base is the row, of that many SKUs, that others differ from by one thing.
func Base(skus int) Row {
	return Row{Name: "4 partitions", Partitions: 4, SKUs: skus, Spread: Uniform, Batches: 1}
}

// Rows are those of the benchmark, of that many SKUs where their names do not say another number.
func Rows(skus int) []Row {
	change := func(name string, by func(*Row)) Row {
		r := Base(skus)
		by(&r)
		r.Name = name
		return r
	}
	return append([]Row{
		Base(skus),
		change("1 partition", func(r *Row) { r.Partitions = 1 }),
		change("12 partitions", func(r *Row) { r.Partitions = 12 }),
		change("zipf 1.1", func(r *Row) { r.Spread = Zipf }),
		change("one hot SKU", func(r *Row) { r.Spread = Hot }),
		change("200 SKUs with 1 batch", func(r *Row) { r.SKUs = 200 }),
		change("200 SKUs with 3 batches", func(r *Row) { r.SKUs, r.Batches = 200, 3 }),
		change("200 SKUs with 300 batches", func(r *Row) { r.SKUs, r.Batches = 200, 300 }),
		change("protobuf", func(r *Row) { r.Encoding = schemas.Protobuf }),
		change("cold", func(r *Row) { r.Cold = true }),
	}, mixedRows(skus)...)
}

// Command is a command and its id.
type Command struct {
	schemas.Command

	ID string
}

// Work is the commands of one measurement. All of them can be done: each Allocate asks for two units, and only the least
// preferred of its SKU's batches has more than one.
type Work struct {
	Row
	Setup    []Command // the batches, which are not measured
	Commands []Command
	touched  map[string]int // commands by SKU
}

const (
	// Source is the ce_source of every command.
	Source = "/bench"

	commandPrefix = "command-" // then its number
	lineQty       = 2
	scarceQty     = 1
	ampleQty      = 1_000_000_000
)

// New makes a row's work: the same seed gives the same.
func (r Row) New(commands int, seed uint64) *Work {
	w := &Work{Row: r, touched: make(map[string]int)}
	for sku := range r.SKUs {
		for b := range r.Batches {
			c := schemas.Command{Type: schemas.CommandCreateBatch, SKU: skuName(sku), Ref: fmt.Sprintf("batch-%d", b), Qty: scarceQty}
			if b == r.Batches-1 {
				c.Qty = ampleQty
			}
			if b > 0 {
				c.ETA = fmt.Sprintf("20%02d-%02d-%02d", 31+b/336, 1+b/28%12, 1+b%28)
			}
			w.Setup = append(w.Setup, Command{c, fmt.Sprintf("batch-%d-%d", sku, b)})
		}
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	next := map[Spread]func() int{
		Uniform: func() int { return rng.IntN(r.SKUs) },
		Hot:     func() int { return 0 },
	}[r.Spread]
	if r.Spread == Zipf {
		zipf := rand.NewZipf(rng, zipfExponent, 1, uint64(r.SKUs-1))
		next = func() int { return int(zipf.Uint64()) }
	}
	first := rng.Uint64() >> 8
	for i := range commands {
		sku := skuName(next())
		w.touched[sku]++
		order := fmt.Sprintf("order-%016x", rng.Uint64())
		if r.Ascending {
			order = fmt.Sprintf("order-g%015x", first+uint64(i)) // after all that are in no order
		}
		w.Commands = append(w.Commands, Command{schemas.Command{
			Type: schemas.CommandAllocate, OrderID: order, SKU: sku, Qty: lineQty,
		}, commandPrefix + strconv.Itoa(i)})
	}
	return w
}

const skuFormat = "SKU-%06d"

func skuName(n int) string { return fmt.Sprintf(skuFormat, n) }

// Record is the command as a producer sends it.
func (c *Command) Record(topic string, encoding schemas.Encoding) *kgo.Record {
	return &kgo.Record{
		Topic: topic, Key: []byte(c.SKU), Value: encoding.AppendCommand(nil, &c.Command),
		Headers: cloudevents.Headers(cloudevents.Envelope{ID: c.ID, Source: Source, Type: c.Type.CEType(), ContentType: encoding.ContentType()}),
	}
}

// Watch has every so-many-th command be about one SKU, and returns it.
func (w *Work) Watch(every int) string {
	watched := skuName(0)
	for i := 0; i < len(w.Commands); i += every {
		w.touched[w.Commands[i].SKU]--
		w.Commands[i].SKU = watched
		w.touched[watched]++
	}
	return watched
}

// About are the numbers of the commands that are about a SKU.
func (w *Work) About(sku string) (numbers []int) {
	for i := range w.Commands {
		if w.Commands[i].SKU == sku {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// ample is the batch of each SKU that all lines get.
func (w *Work) ample() string { return fmt.Sprintf("batch-%d", w.Batches-1) }

// available is what a SKU has left after that many lines.
func (w *Work) available(lines int) int64 {
	return int64(ampleQty + scarceQty*(w.Batches-1) - lineQty*lines)
}

// CutOf are commands that put lines, one each, into a batch of a SKU of its own, and the one that takes the batch away, so
// that they all move to another.
func CutOf(lines int) (setup []Command, cut Command) {
	sku := fmt.Sprintf("CUT-%d", lines)
	add := func(c schemas.Command) {
		setup = append(setup, Command{c, fmt.Sprintf("%s-%d", sku, len(setup))})
	}
	add(schemas.Command{Type: schemas.CommandCreateBatch, SKU: sku, Ref: "cut", Qty: int32(lines)})
	add(schemas.Command{Type: schemas.CommandCreateBatch, SKU: sku, Ref: "spare", Qty: ampleQty, ETA: "2031-01-02"})
	for i := range lines {
		add(schemas.Command{Type: schemas.CommandAllocate, SKU: sku, OrderID: fmt.Sprintf("%s-%d", sku, i), Qty: 1})
	}
	return setup, Command{schemas.Command{Type: schemas.CommandChangeBatchQuantity, SKU: sku, Ref: "cut"}, sku + "-cut"}
}
