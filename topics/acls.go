package topics

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ACLChanges is what separates a cluster's ACLs from those declared.
type ACLChanges struct {
	Disabled bool  // the cluster checks no ACLs, and keeps none
	Create   []ACL // declared, and missing
	Surplus  []ACL // on what Lotline declares (Set.owns), and not declared: denials too
}

// Empty says that the ACLs are as declared, or that there can be none.
func (c ACLChanges) Empty() bool { return len(c.Create)+len(c.Surplus) == 0 }

// DiffACLs compares the cluster's ACLs with what the principals need for their roles.
func DiffACLs(ctx context.Context, adm *kadm.Client, set Set, principals Principals) (ACLChanges, error) {
	have, err := listACLs(ctx, adm)
	if errors.Is(err, kerr.SecurityDisabled) {
		return ACLChanges{Disabled: true}, nil
	}
	if err != nil {
		return ACLChanges{}, err
	}
	var changes ACLChanges
	want := set.ACLs(principals)
	for _, acl := range want {
		if !slices.Contains(have, acl) {
			changes.Create = append(changes.Create, acl)
		}
	}
	for _, acl := range have {
		if !slices.Contains(want, acl) && set.owns(acl) {
			changes.Surplus = append(changes.Surplus, acl)
		}
	}
	return changes, nil
}

func listACLs(ctx context.Context, adm *kadm.Client) ([]ACL, error) {
	all := kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Operations().Allow().AllowHosts().Deny().DenyHosts()
	results, err := adm.DescribeACLs(ctx, all)
	var acls []ACL
	for _, r := range results {
		err = errors.Join(err, r.Err)
		acls = append(acls, r.Described...)
	}
	if err != nil {
		return nil, fmt.Errorf("list the cluster's ACLs: %w", err)
	}
	return acls, nil
}

// ApplyACLs creates what is missing, deletes what is surplus if it is told to, and waits until a broker shows both.
func ApplyACLs(ctx context.Context, adm *kadm.Client, changes ACLChanges, removeSurplus bool) error {
	if changes.Empty() { // a cluster that checks no ACLs does not even list them
		return nil
	}
	for _, acl := range changes.Create {
		results, err := adm.CreateACLs(ctx, build(acl))
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			return fmt.Errorf("allow %s %s on %s %s: %w", acl.Principal, acl.Operation, acl.Type, acl.Name, err)
		}
	}
	if !removeSurplus {
		return settleACLs(ctx, adm, changes.Create, nil)
	}
	for _, acl := range changes.Surplus {
		results, err := adm.DeleteACLs(ctx, build(acl))
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			return fmt.Errorf("take %s on %s %s from %s: %w", acl.Operation, acl.Type, acl.Name, acl.Principal, err)
		}
	}
	return settleACLs(ctx, adm, changes.Create, changes.Surplus)
}

// build is the ACL as the admin client wants it: to create it, or to choose exactly it.
func build(acl ACL) *kadm.ACLBuilder {
	b := kadm.NewACLs().ResourcePatternType(acl.Pattern).Operations(acl.Operation)
	switch acl.Type {
	case kmsg.ACLResourceTypeTopic:
		b.Topics(acl.Name)
	case kmsg.ACLResourceTypeGroup:
		b.Groups(acl.Name)
	case kmsg.ACLResourceTypeTransactionalId:
		b.TransactionalIDs(acl.Name)
	default: // nothing else is declared
		b.Clusters()
	}
	if acl.Permission == kmsg.ACLPermissionTypeDeny {
		return b.Deny(acl.Principal).DenyHosts(acl.Host)
	}
	return b.Allow(acl.Principal).AllowHosts(acl.Host)
}

// settleACLs waits as settle does: brokers learn of ACLs a moment after they are acknowledged.
func settleACLs(ctx context.Context, adm *kadm.Client, present, absent []ACL) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTimeout, fmt.Errorf("the ACLs were changed, but no broker shows it after %s", settleTimeout))
	defer cancel()
	for {
		have, err := listACLs(ctx, adm)
		if err != nil {
			return err
		}
		missing := func(acl ACL) bool { return !slices.Contains(have, acl) }
		if !slices.ContainsFunc(present, missing) && (len(absent) == 0 || !slices.ContainsFunc(absent, func(acl ACL) bool { return !missing(acl) })) {
			return nil
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
