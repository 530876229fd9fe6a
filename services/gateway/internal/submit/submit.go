// Package submit sends commands to Kafka and waits for what becomes of them:
// Submitter writes to the commands topic, Tail follows the events topic and
// wakes whoever waits for an event it sees.
//
// The gateway's HTTP API calls it and the service's root wires it. It imports
// the wire format, the read model's contract, Kafka's client and Lotline's packages for both.
package submit

import (
	"context"
	"errors"
	"time"

	"github.com/lotline/lotline/schemas"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Source is the CloudEvents source of every command that the gateway sends.
const Source = "/lotline/gateway"

// produceBuffered bounds the commands that wait for Kafka. More than that means
// that Kafka is away, and the next one is refused at once.
const produceBuffered = 10_000

// deliveryTimeoutMin is the least that Kafka's client takes. A shorter time is kept to by each record's context.
const deliveryTimeoutMin = time.Second

var (
	// ErrUnacknowledged says that Kafka did not acknowledge a command in time. It
	// is almost certainly not there when Kafka is away, but an acknowledgement that
	// was lost looks the same: the command may have been accepted.
	ErrUnacknowledged = errors.New("Kafka did not acknowledge the command")
	// ErrKeyReused says that a key was used before, for another command.
	ErrKeyReused = errors.New("the key was used for another command")
)

// Request is a command to send.
type Request struct {
	Command schemas.Command
	// Key is the id that the client chose for the command, "" for a new one. Under one key a command has its effect
	// once; whoever sends it again hears what became of the first.
	Key string
}

// Outcome is a command's last event, and its place in the events topic.
type Outcome struct {
	schemas.Event
	Partition int32
	Offset    int64 // -1: projected already, and not known here
}

// Receipt says what is known of a command that was sent.
type Receipt struct {
	CommandID string
	Outcome   *Outcome // nil = not seen in time; of a key that was used before, the first one's
}

// Result is what one Request came to. Err wraps ErrUnacknowledged or ErrKeyReused, or is the context's; the Receipt holds
// the command's id all the same.
type Result struct {
	Receipt
	Err error
}

// ProducerOpts returns the options that a Submitter's client needs besides
// those that all clients share: a record is on all replicas before it is
// acknowledged, and one that could not be sent within ackWait is given up, so that
// what a client was told had failed does not happen when Kafka is back.
func ProducerOpts(ackWait time.Duration) []kgo.Opt {
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(produceBuffered),
		kgo.RecordDeliveryTimeout(max(ackWait, deliveryTimeoutMin)),
	}
}

// Submitter sends commands. Its methods may be called concurrently.
type Submitter struct {
	client  *kgo.Client
	topic   string
	ackWait time.Duration
	waiters *Waiters
	stop    <-chan struct{}
	keys    *keys

	// Acknowledged, if it is set, is called with each command that Kafka has taken, with its place in the log. It must not
	// wait for anything.
	Acknowledged func(id string, record *kgo.Record)
}

// New returns a Submitter that writes to topic through client (made with
// ProducerOpts), gives Kafka ackWait to acknowledge, learns of outcomes
// from waiters, and asks past for those of keys that were used before it began. Once stop is closed it waits for no
// outcome any more: a process that stops answers first.
func New(client *kgo.Client, topic string, ackWait time.Duration, waiters *Waiters, past Past, stop <-chan struct{}) *Submitter {
	return &Submitter{client: client, topic: topic, ackWait: ackWait, waiters: waiters, stop: stop, keys: newKeys(past)}
}

// Submit sends commands, in this order as far as they are about one SKU, and waits until their last events are seen, but
// not longer than wait from now; with wait 0 it returns when Kafka has acknowledged them. An outcome that is not seen in
// time is no error. The results are in the order of the requests, of which no two may have one key.
//
// Sending goes on when ctx ends, since Kafka may have the commands already; only those whose keys have not been looked
// up by then are not sent.
func (s *Submitter) Submit(ctx context.Context, wait time.Duration, requests ...Request) []Result {
	deadline := time.Now().Add(wait)
	sendings := make([]*sending, len(requests))
	for i := range requests {
		sendings[i] = &sending{Submitter: s, request: &requests[i], deadline: deadline, waits: wait > 0}
		if sendings[i].result.CommandID = requests[i].Key; requests[i].Key != "" {
			sendings[i].claimed = make(chan struct{})
		}
	}
	go s.claim(ctx, sendings)
	for _, one := range sendings {
		if one.claimed != nil {
			<-one.claimed
		}
		if !one.settled {
			one.begin(ctx)
		}
	}
	results := make([]Result, len(sendings))
	for i, one := range sendings {
		if !one.settled {
			one.finish(ctx)
		}
		results[i] = one.result
	}
	return results
}
