package topics

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Role is what a user of the cluster is to Lotline, and so what it may do there.
type Role string

// The roles.
const (
	RoleAdmin     Role = "admin"     // topics apply: topics, settings and ACLs, and so whatever it grants itself
	RoleAllocator Role = "allocator" // commands to events and dead letters
	RoleProjector Role = "projector" // events to the read model
	RoleGateway   Role = "gateway"   // HTTP to commands, and their outcomes; how far the projectors are
	RoleProducer  Role = "producer"  // order systems: send commands
	RoleConsumer  Role = "consumer"  // warehouses and others: read events, in groups named after ConsumerGroups
	RoleOperator  Role = "operator"  // lotline send, tail, dlq, verify, offsets; no service's group or transactions. A skip that wants the allocators stopped takes RoleAllocator
)

// Roles returns all roles.
func Roles() []Role {
	return []Role{RoleAdmin, RoleAllocator, RoleProjector, RoleGateway, RoleProducer, RoleConsumer, RoleOperator}
}

// Principals says who has a role, in Kafka's form: User:lotline-allocator.
type Principals map[Role][]string

// ParsePrincipals reads texts of the form ROLE=TYPE:NAME; a role may have several principals, and a principal several
// roles. The error names every fault.
func ParsePrincipals(texts []string) (Principals, error) {
	principals := Principals{}
	var errs []error
	for _, text := range texts {
		role, principal, _ := strings.Cut(text, "=")
		kind, name, _ := strings.Cut(principal, ":")
		switch {
		case kind == "" || name == "":
			errs = append(errs, fmt.Errorf("the principal %q is not of the form ROLE=User:NAME", text))
		case !slices.Contains(Roles(), Role(role)):
			errs = append(errs, fmt.Errorf("there is no role %q, in the principal %q: the roles are %v", role, text, Roles()))
		default:
			principals[Role(role)] = append(principals[Role(role)], principal)
		}
	}
	return principals, errors.Join(errs...)
}

// ACL is one permission. The host of those declared is "*", any.
type ACL = kadm.DescribedACL

// ACLs returns what the principals need for their roles and nothing else, in the order of the roles, each once.
// Describe, which Kafka gives with Read, Write and Alter, and DescribeConfigs, which it gives with AlterConfigs, are
// not granted a second time. Nobody needs IdempotentWrite on the cluster: since Kafka 2.8 a Write on a topic is enough.
func (s Set) ACLs(principals Principals) []ACL {
	var acls []ACL
	for _, role := range Roles() {
		for _, principal := range principals[role] {
			for _, acl := range s.grants(role) {
				acl.Principal, acl.Host, acl.Permission = principal, "*", kmsg.ACLPermissionTypeAllow
				if !slices.Contains(acls, acl) {
					acls = append(acls, acl)
				}
			}
		}
	}
	return acls
}

func (s Set) grants(role Role) []ACL {
	topic := func(t Topic, op kadm.ACLOperation) ACL {
		return ACL{Type: kmsg.ACLResourceTypeTopic, Name: t.Name, Pattern: kadm.ACLPatternLiteral, Operation: op}
	}
	group := func(name string, pattern kadm.ACLPattern, op kadm.ACLOperation) ACL {
		return ACL{Type: kmsg.ACLResourceTypeGroup, Name: name, Pattern: pattern, Operation: op}
	}
	transactions := func(id string, pattern kadm.ACLPattern) ACL {
		return ACL{Type: kmsg.ACLResourceTypeTransactionalId, Name: id, Pattern: pattern, Operation: kadm.OpWrite}
	}
	const literal, prefixed = kadm.ACLPatternLiteral, kadm.ACLPatternPrefixed
	switch role {
	case RoleAdmin:
		acls := []ACL{{Type: kmsg.ACLResourceTypeCluster, Name: "kafka-cluster", Pattern: literal, Operation: kadm.OpAlter}}
		for _, t := range s.All() {
			acls = append(acls, topic(t, kadm.OpCreate), topic(t, kadm.OpAlter), topic(t, kadm.OpAlterConfigs))
		}
		return acls
	case RoleAllocator:
		return []ACL{
			topic(s.Commands, kadm.OpRead), topic(s.Events, kadm.OpWrite), topic(s.DeadLetters, kadm.OpWrite),
			topic(s.Events, kadm.OpRead), topic(s.DeadLetters, kadm.OpRead), // to see which transactions are open there
			group(s.AllocatorGroup, literal, kadm.OpRead), transactions(s.AllocatorGroup+".", prefixed),
		}
	case RoleProjector:
		return []ACL{topic(s.Events, kadm.OpRead), group(s.ProjectorGroup, literal, kadm.OpRead), group(s.ProjectorGroup+".", prefixed, kadm.OpRead)}
	case RoleGateway:
		return []ACL{
			topic(s.Commands, kadm.OpWrite), topic(s.Events, kadm.OpRead),
			group(s.ProjectorGroup, literal, kadm.OpDescribe), group(s.ProjectorGroup+".", prefixed, kadm.OpDescribe), // how far the read model is
			// What the console shows, and does: it answers dead letters.
			group(s.AllocatorGroup, literal, kadm.OpDescribe), topic(s.DeadLetters, kadm.OpRead), topic(s.DeadLetters, kadm.OpWrite), transactions(s.AnswersID, literal),
		}
	case RoleProducer:
		return []ACL{topic(s.Commands, kadm.OpWrite)}
	case RoleConsumer:
		return []ACL{topic(s.Events, kadm.OpRead), group(s.ConsumerGroups, prefixed, kadm.OpRead)}
	case RoleOperator:
		return []ACL{
			topic(s.Commands, kadm.OpRead), topic(s.Commands, kadm.OpWrite), topic(s.Events, kadm.OpRead),
			topic(s.DeadLetters, kadm.OpRead), topic(s.DeadLetters, kadm.OpWrite), transactions(s.AnswersID, literal),
			group(s.AllocatorGroup, literal, kadm.OpDescribe), group(s.ProjectorGroup, literal, kadm.OpDescribe), group(s.ProjectorGroup+".", prefixed, kadm.OpDescribe),
		}
	}
	return nil
}

// owns reports whether an ACL is on what Lotline declares: one of its topics, groups or transactional ids, by its name or as one of those
// that begin with a declared prefix, or a prefix that covers one and begins with the installation's own. Wider ones, and those on the
// cluster, are for the cluster's operators to judge; groups of consumers are theirs who consume.
func (s Set) owns(acl ACL) bool {
	names := map[kmsg.ACLResourceType]map[string]bool{}
	within := false
	everyone := Principals{}
	for _, role := range Roles() {
		everyone[role] = []string{"User:any"}
	}
	for _, a := range s.ACLs(everyone) {
		if a.Type == kmsg.ACLResourceTypeCluster {
			continue
		}
		if names[a.Type] == nil {
			names[a.Type] = map[string]bool{}
		}
		names[a.Type][a.Name] = true
		within = within || a.Type == acl.Type && a.Pattern == kadm.ACLPatternPrefixed && a.Name != s.ConsumerGroups && strings.HasPrefix(acl.Name, a.Name)
	}
	if within {
		return true
	}
	if acl.Pattern == kadm.ACLPatternPrefixed && strings.HasPrefix(acl.Name, s.Prefix) {
		return slices.ContainsFunc(slices.Collect(maps.Keys(names[acl.Type])), func(name string) bool { return strings.HasPrefix(name, acl.Name) })
	}
	return acl.Pattern == kadm.ACLPatternLiteral && names[acl.Type][acl.Name]
}
