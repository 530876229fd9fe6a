package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/schemas"
)

const (
	ordersPerSecondMax = 1000
	linesRemembered    = 200 // of the newest, to cancel one now and then
	ordersPerShipment  = 15  // about as much comes in as is ordered, so that SKUs run out and come back
	ordersPerCancel    = 25
	ordersPerBreakage  = 50
)

// orders sends a made-up shop's orders, so many a second, until ctx ends.
func orders(ctx context.Context, client *kgo.Client, perSecond int) error {
	shop := newShopper(time.Now())
	due := time.NewTicker(time.Second / time.Duration(perSecond))
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-due.C:
			var records []*kgo.Record
			for _, command := range shop.order(now) {
				shop.sent++
				records = append(records, record(fmt.Sprintf("shop-%s-%d", shop.name, shop.sent), &command))
			}
			if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("send an order: %w", err)
			}
		}
	}
}

// shopper makes orders up. Its ids have its name in them, which no earlier run had.
type shopper struct {
	name    string
	random  *rand.Rand
	sent    int // commands
	orders  int
	shipped schemas.Command   // the newest shipment
	lines   []schemas.Command // the newest
}

func newShopper(began time.Time) *shopper {
	seed := uint64(began.Unix())
	return &shopper{name: strconv.FormatUint(seed, 36), random: rand.New(rand.NewPCG(seed, 1))}
}

// order returns the commands of the next order, and of what else happens in a shop meanwhile.
func (s *shopper) order(today time.Time) []schemas.Command {
	s.orders++
	var commands []schemas.Command
	first := s.random.IntN(len(furniture))
	for line := range 1 + s.random.IntN(3) {
		commands = append(commands, schemas.Command{
			Type: schemas.CommandAllocate, OrderID: fmt.Sprintf("order-%s-%d", s.name, s.orders),
			SKU: furniture[(first+7*line)%len(furniture)], Qty: 1 + s.random.Int32N(12),
		})
	}
	s.lines = append(s.lines, commands...)
	s.lines = s.lines[max(0, len(s.lines)-linesRemembered):]
	if s.orders%ordersPerShipment == 1 {
		s.shipped = s.shipment(today)
		commands = append(commands, s.shipped)
	}
	if s.orders%ordersPerCancel == 0 {
		line := s.lines[s.random.IntN(len(s.lines))]
		commands = append(commands, schemas.Command{Type: schemas.CommandDeallocate, OrderID: line.OrderID, SKU: line.SKU})
	}
	if s.orders%ordersPerBreakage == 0 {
		commands = append(commands, schemas.Command{
			Type: schemas.CommandChangeBatchQuantity, Ref: s.shipped.Ref, SKU: s.shipped.SKU, Qty: shipmentUnits - shipmentUnits/5,
		})
	}
	return commands
}

// shipment is here at once, or on its way.
func (s *shopper) shipment(today time.Time) schemas.Command {
	batch := schemas.Command{
		Type: schemas.CommandCreateBatch, Ref: fmt.Sprintf("ship-%s-%d", s.name, s.orders),
		SKU: furniture[s.random.IntN(len(furniture))], Qty: shipmentUnits,
	}
	if s.random.IntN(2) == 0 {
		batch.ETA = today.AddDate(0, 0, 3+s.random.IntN(60)).Format(dateFormat)
	}
	return batch
}
