package cli

import (
	"errors"
	"math"

	"github.com/lotline/lotline/services/cli/internal/tail"
	"github.com/lotline/lotline/topics"
)

type tailCmd struct {
	What      string   `arg:"" enum:"commands,events,dlq" help:"commands, events or dlq."`
	From      string   `env:"-" default:"start" help:"start, end, an offset, or -N for the last N offsets of each partition (--from=-10), of which the end of each transaction is one."`
	Count     int      `env:"-" short:"n" placeholder:"N" help:"Stop after N lines."`
	Follow    bool     `env:"-" short:"f" help:"Wait for more at the end."`
	Partition []int32  `env:"-" short:"p" placeholder:"N" help:"Only these partitions, separated by commas."`
	SKU       string   `env:"-" name:"sku" help:"Only what is about this SKU."`
	Type      []string `env:"-" placeholder:"NAME" help:"Only these types, such as Allocated, separated by commas."`
}

// Validate is called by kong.
func (c *tailCmd) Validate() error {
	if c.Count < 0 || c.Count > math.MaxInt32 {
		return errors.New("-n must be 1 or more")
	}
	if c.From == "end" && !c.Follow && c.Count == 0 {
		return errors.New("--from=end shows only what is still to come: add --follow")
	}
	return nil
}

// Run prints until the end, the count or the user's interrupt.
func (c *tailCmd) Run(e *env) error {
	client, err := e.connect()
	if err != nil {
		return err
	}
	client.Close()
	kind := tail.Kind(c.What)
	declared := topics.Declared(e.kafka.TopicPrefix)
	topic := map[tail.Kind]topics.Topic{
		tail.Commands: declared.Commands, tail.Events: declared.Events, tail.DeadLetters: declared.DeadLetters,
	}[kind]
	return tail.Run(e.ctx, e.kafka.Opts(clientID), tail.Options{
		Kind: kind, Topic: topic.Name, Partitions: c.Partition, From: c.From, Count: c.Count,
		Follow: c.Follow || c.From == "end", SKU: c.SKU, Types: c.Type,
	}, e.stdout, e.stderr)
}
