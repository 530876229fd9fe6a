package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

const (
	seedSource    = "/lotline/devstack"
	ordersSeeded  = 60
	seedWithin    = time.Minute
	outcomeEvery  = 50 * time.Millisecond
	dateFormat    = "2006-01-02"
	shipmentUnits = 200
)

// seed sends a small shop's day to a stack whose commands topic was never written, and waits until the gateway knows
// every outcome. Cut short, it would not be repeated: what was sent counts.
func seed(ctx context.Context, client *kgo.Client, gateway string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, seedWithin)
	defer cancel()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topics.Declared(topicPrefix).Commands.Name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("see whether there are commands already: %w", err)
	}
	written := false
	ends.Each(func(o kadm.ListedOffset) { written = written || o.Offset > 0 })
	if written {
		fmt.Fprintln(out, "The data of earlier runs is here.")
		return nil
	}
	commands := shop(time.Now())
	records := make([]*kgo.Record, len(commands))
	for i, command := range commands {
		records[i] = record(seedID(i), &command)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("send the first commands: %w", err)
	}
	for i := range records {
		if err := awaitOutcome(ctx, gateway+"/commands/"+seedID(i)); err != nil {
			return fmt.Errorf("wait for the outcomes of the first commands: %w", err)
		}
	}
	fmt.Fprintf(out, "Sent %d commands about %d SKUs, and all have their outcome.\n", len(records), len(furniture))
	return nil
}

// record is a command as it is sent.
func record(id string, command *schemas.Command) *kgo.Record {
	return &kgo.Record{
		Key: []byte(command.SKU), Value: schemas.AppendCommand(nil, command),
		Headers: cloudevents.Headers(cloudevents.Envelope{
			ID: id, Source: seedSource, Type: command.Type.CEType(), ContentType: schemas.ContentTypeJSON,
		}),
	}
}

func seedID(i int) string { return fmt.Sprintf("seed-%03d", i) }

func awaitOutcome(ctx context.Context, address string) error {
	for {
		err := stack.Probe(ctx, address)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(outcomeEvery):
		}
	}
}

var furniture = []string{
	"RED-CHAIR", "BLUE-CHAIR", "OAK-CHAIR", "FOLDING-CHAIR", "ROCKING-CHAIR", "BAR-STOOL", "PIANO-STOOL", "FOOTSTOOL",
	"SMALL-TABLE", "ROUND-TABLE", "COFFEE-TABLE", "DINING-TABLE", "SIDE-TABLE", "WRITING-DESK", "STANDING-DESK",
	"RETRO-LAMPSHADE", "FLOOR-LAMP", "DESK-LAMP", "TASTELESS-LAMP", "TALL-BOOKCASE", "LOW-BOOKCASE", "WALL-SHELF",
	"BLUE-VASE", "TALL-MIRROR", "ROUND-MIRROR", "LARGE-RUG", "HALL-RUG", "DOUBLE-BED", "BUNK-BED", "VELVET-SOFA",
	"CORNER-SOFA", "WICKER-BASKET",
}

// shop returns commands like a small shop's: of each SKU something in the warehouse and, of most, a shipment on its way;
// orders of one to three lines; and a pallet of red chairs that turns out to be broken, so that orders move.
func shop(today time.Time) []schemas.Command {
	random := rand.New(rand.NewPCG(1, 1)) // the same shop each time
	var commands []schemas.Command
	for i, sku := range furniture {
		commands = append(commands, schemas.Command{
			Type: schemas.CommandCreateBatch, Ref: fmt.Sprintf("stock-%03d", i), SKU: sku, Qty: 20 + random.Int32N(80),
		})
		if i%4 == 3 {
			continue // nothing on its way
		}
		commands = append(commands, schemas.Command{
			Type: schemas.CommandCreateBatch, Ref: fmt.Sprintf("ship-%03d", i), SKU: sku, Qty: shipmentUnits,
			ETA: today.AddDate(0, 0, 3+random.IntN(60)).Format(dateFormat),
		})
	}
	for order := range ordersSeeded {
		first := random.IntN(len(furniture))
		for line := range 1 + random.IntN(3) {
			commands = append(commands, schemas.Command{
				Type: schemas.CommandAllocate, OrderID: fmt.Sprintf("order-%03d", order),
				SKU: furniture[(first+7*line)%len(furniture)], Qty: 1 + random.Int32N(12),
			})
		}
	}
	chairs := furniture[0]
	return append(commands,
		schemas.Command{Type: schemas.CommandAllocate, OrderID: "order-cafe", SKU: chairs, Qty: 8},
		schemas.Command{Type: schemas.CommandAllocate, OrderID: "order-school", SKU: chairs, Qty: 12},
		schemas.Command{Type: schemas.CommandChangeBatchQuantity, Ref: "stock-000", SKU: chairs, Qty: 10},
	)
}
