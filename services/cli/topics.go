package cli

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/lotline/lotline/topics"
)

type topicsCmd struct {
	KafkaReplication int16 `default:"3" help:"Replicas of each topic; 1 for a single broker, -1 for the broker's default."`

	Diff  topicsDiffCmd  `cmd:"" help:"Print what differs; exit code 1 if something does, 2 on errors."`
	Apply topicsApplyCmd `cmd:"" help:"Create topics, add partitions, set settings. Never deletes anything."`
}

type (
	topicsDiffCmd  struct{}
	topicsApplyCmd struct{}
)

// Run prints the differences.
func (topicsDiffCmd) Run(e *env, t *topicsCmd) error {
	changes, _, done, err := t.diff(e)
	if err != nil {
		return exit{exitUsage, err}
	}
	done()
	if !changes.Empty() {
		return exit{exitFailed, nil}
	}
	return nil
}

// Run prints the differences and makes them go away.
func (topicsApplyCmd) Run(e *env, t *topicsCmd) error {
	changes, adm, done, err := t.diff(e)
	if err != nil {
		return err
	}
	defer done()
	if changes.Empty() {
		return nil
	}
	err = topics.Apply(e.ctx, adm, changes)
	if errors.Is(err, kerr.InvalidReplicationFactor) {
		return fmt.Errorf("there are fewer than %d brokers, give another number with --kafka-replication: %w", t.KafkaReplication, err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "applied")
	return nil
}

// diff compares, prints the table, and leaves the client open for the caller to
// close with done.
func (t *topicsCmd) diff(e *env) (changes topics.Changes, adm *kadm.Client, done func(), err error) {
	client, err := e.connect()
	if err != nil {
		return changes, nil, nil, err
	}
	adm = kadm.NewClient(client)
	declared := topics.Declared(e.kafka.TopicPrefix).All()
	if changes, err = topics.Diff(e.ctx, adm, declared, t.KafkaReplication); err == nil {
		err = printChanges(e.stdout, changes, len(declared))
	}
	if err != nil {
		client.Close()
		return changes, nil, nil, err
	}
	return changes, adm, client.Close, nil
}

func printChanges(out io.Writer, c topics.Changes, declared int) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if c.Empty() {
		fmt.Fprintf(w, "all %d topics are as declared\n", declared)
		return w.Flush()
	}
	row := func(topic, what, from, to any) { fmt.Fprintf(w, "%v\t%v\t%v\t%v\n", topic, what, from, to) }
	row("TOPIC", "WHAT", "IS", "DECLARED")
	for _, t := range c.Create {
		row(t.Name, "topic", "missing", fmt.Sprintf("%d partitions, key %s, schema %s", t.Partitions, t.Key, t.Schema))
	}
	for _, g := range c.Grow {
		row(g.Topic, "partitions", g.From, g.To)
	}
	for _, a := range c.Alter {
		row(a.Topic, a.Name, a.From, a.To)
	}
	for _, r := range c.Refused {
		fmt.Fprintf(w, "%s\tREFUSED: it %s\n", r.Topic, r.Why)
	}
	return w.Flush()
}
