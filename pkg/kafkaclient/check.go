package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Check asks Kafka whether topics exist and allow this user what is needed of each, and returns why not, explained. A
// service that asks before it works can say so before the first record meets the refusal. It asks the brokers each
// time, one request a topic.
func Check(ctx context.Context, client *kgo.Client, needs map[string]kadm.ACLOperation) error {
	adm := kadm.NewClient(client)
	for _, topic := range slices.Sorted(maps.Keys(needs)) {
		need := needs[topic]
		found, err := adm.ListTopics(kadm.WithAuthorizedOps(ctx), topic)
		if err == nil {
			err = found[topic].Err
		}
		switch allowed := found[topic].AuthorizedOperations; {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			return fmt.Errorf("the topic %s does not exist: create it with `lotline topics apply`, or check --kafka-topic-prefix: %w", topic, err)
		case err != nil:
			return Explain(fmt.Errorf("ask for topic %s: %w", topic, err))
		case len(allowed) > 0 && !slices.Contains(allowed, need): // none: the broker does not say
			return Explain(fmt.Errorf("this user has no %s permission for topic %s: %w", need, topic, kerr.TopicAuthorizationFailed))
		}
	}
	return nil
}
