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
	KafkaReplication int16    `default:"3" help:"Replicas of each topic; 1 for a single broker, -1 for the broker's default."`
	Principal        []string `sep:";" placeholder:"ROLE=User:NAME" help:"Who has a role, to compare and grant what it needs; may be given again, or several with semicolons between. Roles: admin, allocator, projector, gateway, producer, consumer, operator. Without any, ACLs are left alone."`

	Diff  topicsDiffCmd  `cmd:"" help:"Print what differs; exit code 1 if something does, 2 on errors."`
	Apply topicsApplyCmd `cmd:"" help:"Create topics, add partitions, set settings, grant permissions. Never deletes a topic or a record."`
}

// Help is printed by kong under the description.
func (*topicsCmd) Help() string {
	return `On a cluster that checks ACLs, each role needs its own: name who has them all at once, every time.

  lotline topics apply --principal=allocator=User:lotline-allocator --principal=projector=User:lotline-projector …

An ACL on one of Lotline's topics, groups or transactional ids that no role needs is shown as surplus. It is removed
only by topics apply --remove-surplus-acls. The first time, a super user of the cluster has to run this; from then on
whoever has the role admin can.`
}

type (
	topicsDiffCmd  struct{}
	topicsApplyCmd struct {
		RemoveSurplusACLs bool `env:"-" name:"remove-surplus-acls" help:"Delete the ACLs that are shown as surplus."`
	}
)

// topicsDiff is everything that differs, and the client to change it with.
type topicsDiff struct {
	topics topics.Changes
	acls   topics.ACLChanges
	adm    *kadm.Client
	done   func()
}

func (d topicsDiff) empty() bool { return d.topics.Empty() && d.acls.Empty() }

// Run prints the differences.
func (topicsDiffCmd) Run(e *env, t *topicsCmd) error {
	d, err := t.diff(e)
	if err != nil {
		return exit{exitUsage, err}
	}
	d.done()
	if !d.empty() {
		return exit{exitFailed, nil}
	}
	return nil
}

// Run prints the differences and makes them go away.
func (c topicsApplyCmd) Run(e *env, t *topicsCmd) error {
	d, err := t.diff(e)
	if err != nil {
		return err
	}
	defer d.done()
	if d.empty() {
		return nil
	}
	err = topics.Apply(e.ctx, d.adm, d.topics)
	if errors.Is(err, kerr.InvalidReplicationFactor) {
		return fmt.Errorf("there are fewer than %d brokers, give another number with --kafka-replication: %w", t.KafkaReplication, err)
	}
	if err != nil {
		return err
	}
	if err := topics.ApplyACLs(e.ctx, d.adm, d.acls, c.RemoveSurplusACLs); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "applied")
	if len(d.acls.Surplus) > 0 && !c.RemoveSurplusACLs {
		fmt.Fprintln(e.stdout, "the surplus ACLs are still there: --remove-surplus-acls deletes them")
	}
	return nil
}

// diff compares, prints the tables, and leaves the client open for the caller to
// close with done.
func (t *topicsCmd) diff(e *env) (d topicsDiff, err error) {
	principals, err := topics.ParsePrincipals(t.Principal)
	if err != nil {
		return d, exit{exitUsage, err}
	}
	client, err := e.connect()
	if err != nil {
		return d, err
	}
	d.adm, d.done = kadm.NewClient(client), client.Close
	declared := topics.Declared(e.kafka.TopicPrefix)
	d.topics, err = topics.Diff(e.ctx, d.adm, declared.All(), t.KafkaReplication)
	if err == nil {
		err = printChanges(e.stdout, d.topics, len(declared.All()))
	}
	if err == nil && len(principals) > 0 {
		if d.acls, err = topics.DiffACLs(e.ctx, d.adm, declared, principals); err == nil {
			err = printACLs(e.stdout, d.acls, len(declared.ACLs(principals)))
		}
	}
	if err != nil {
		client.Close()
	}
	return d, err
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

func printACLs(out io.Writer, c topics.ACLChanges, declared int) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	switch {
	case c.Disabled:
		fmt.Fprintln(w, "this cluster checks no ACLs (authorizer.class.name is not set): none are compared or created")
		return w.Flush()
	case c.Empty():
		fmt.Fprintf(w, "all %d ACLs are as declared\n", declared)
		return w.Flush()
	}
	row := func(is string, acls []topics.ACL) {
		for _, a := range acls {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s %s\t%s\n", is, a.Principal, a.Permission, a.Operation, a.Pattern, a.Type, a.Name)
		}
	}
	fmt.Fprintln(w, "ACL\tPRINCIPAL\tPERMISSION\tOPERATION\tRESOURCE\tNAME")
	row("missing", c.Create)
	row("SURPLUS", c.Surplus)
	return w.Flush()
}
