package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lotline/lotline/pkg/fault"
	"github.com/lotline/lotline/pkg/kafkaclient"
)

// commit commits the offsets of partitions that are still ours under the assignment in which they were read, and
// does so until it succeeds: a refusal either passes, or comes before the news that the partitions are gone.
func (c *Consumer) commit(ctx context.Context, next map[int32]position) error {
	return fault.Retry(ctx, c.log, "commit offsets of "+c.cfg.Topic, func(ctx context.Context) error {
		c.owned.committing.Lock()
		defer c.owned.committing.Unlock()
		offsets := c.owned.current(next)
		if len(offsets) == 0 {
			return nil
		}
		var result error
		c.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{c.cfg.Topic: offsets},
			func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
				result = commitError(resp, err)
			})
		result = kafkaclient.Explain(result)
		c.health.Set(c.cfg.Group, result)
		return result
	})
}

// commitError returns what kept any partition's offset from being committed.
func commitError(resp *kmsg.OffsetCommitResponse, err error) error {
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				errs = append(errs, fmt.Errorf("partition %d: %w", p.Partition, err))
			}
		}
	}
	return errors.Join(errs...)
}
