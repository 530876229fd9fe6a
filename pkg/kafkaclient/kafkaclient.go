// Package kafkaclient is how every Lotline process reaches Kafka: the settings
// that operators give, and the client options that must be the same everywhere.
//
// Services embed Config in their own and add what is theirs (groups,
// transactions, consumed topics) to Opts, and show errors as Explain returns
// them. It imports pkg/credentials, the Kafka client and its admin client.
package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/credentials"
)

const (
	// maxDecompressBatchBytes bounds what one fetched batch may inflate to: the
	// client's default, 1 GiB, would let one hostile batch take the process.
	maxDecompressBatchBytes = 16 << 20
	// fetchMaxBytes bounds what a client asks of a broker at once, as it is on the wire: uncompressed, the smallest
	// records take 36 times as much in memory.
	fetchMaxBytes = 4 << 20
	dialTimeout   = 5 * time.Second
	// fetchMaxWait bounds how long a broker holds a fetch that finds nothing. What is added to what a client reads is
	// asked for with its next fetch only, so the client's default of 5 s could be seen as a delay by users.
	fetchMaxWait = 500 * time.Millisecond
	// metadataMaxAge is after how long partitions that were added are seen: by the client's default of 5 minutes, their
	// commands would wait so long.
	metadataMaxAge = 10 * time.Second
)

// Kafka allows 249 bytes for a topic name; the rest is left to the suffixes.
var topicPrefix = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,199}$`)

// Config is what an operator says about Kafka. Embedded with the prefix
// "kafka-" its flags are --kafka-brokers, --kafka-topic-prefix and so on. The
// password is in none of its fields.
type Config struct {
	Brokers     []string `help:"Addresses (host:port) of Kafka brokers to start from, separated by commas." default:"127.0.0.1:9092"`
	TopicPrefix string   `help:"What the names of topics and consumer groups start with." default:"lotline"`

	credentials.TLS `embed:""`

	SASLUsername     string `name:"sasl-username" help:"User to log in to Kafka as; empty = no login." placeholder:"NAME"`
	SASLPasswordFile string `name:"sasl-password-file" help:"File with the user's password; empty = the variable LOTLINE_KAFKA_SASL_PASSWORD. This file and those of TLS are read again for each connection." placeholder:"PATH"`
	SASLMechanism    string `name:"sasl-mechanism" help:"How to log in: SCRAM-SHA-512, SCRAM-SHA-256, or PLAIN, which needs TLS." default:"SCRAM-SHA-512" placeholder:"NAME"`
}

// Validate names every fault of the configuration, a sentence each.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("no Kafka broker is given: set --kafka-brokers or LOTLINE_KAFKA_BROKERS to host:port"))
	}
	for _, broker := range c.Brokers {
		if host, port, err := net.SplitHostPort(broker); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("the Kafka broker %q is not an address of the form host:port", broker))
		} else if strings.ContainsFunc(broker, unicode.IsSpace) { // which would be looked up, in vain, as a part of the name
			errs = append(errs, fmt.Errorf("the Kafka broker %q has a space in it: leave out spaces between addresses", broker))
		}
	}
	if !topicPrefix.MatchString(c.TopicPrefix) {
		errs = append(errs, fmt.Errorf("the topic prefix %q is not 1 to 200 letters, digits, dots, dashes and underscores that start with a letter or digit", c.TopicPrefix))
	}
	return errors.Join(append(errs, c.validateSecurity())...)
}

// Opts returns the options that all clients share. Later options win, so a
// caller appends its own. Topics are never created by asking for them, and how
// often requests are tried again stays the client's default (20 times within
// 30 s); waiting out longer outages is the caller's, with fault.Retry.
// Warnings and errors of the client go to slog's default logger.
func (c Config) Opts(clientID string) []kgo.Opt {
	return append(c.secured(),
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(clientID),
		kgo.WithDecompressor(inflate()),
		kgo.FetchMaxBytes(fetchMaxBytes),
		kgo.DialTimeout(dialTimeout),
		kgo.FetchMaxWait(fetchMaxWait),
		kgo.MetadataMaxAge(metadataMaxAge),
		kgo.WithLogger(logger{slog.Default().With("component", "kafka", "client", clientID)}),
	)
}

// logger passes what the Kafka client says to slog, refusals with what to do
// about them. Its information level is left out: it speaks about every metadata
// update.
type logger struct{ log *slog.Logger }

func (logger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelWarn
	if level == kgo.LogLevelError {
		to = slog.LevelError
	}
	explained := slices.Clone(keyvals)
	for i, value := range explained {
		if err, ok := value.(error); ok {
			explained[i] = Explain(err)
		}
	}
	l.log.Log(context.Background(), to, msg, explained...)
}
