package allocator

import (
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/services/allocator/internal/allocation"
	"github.com/lotline/lotline/services/allocator/internal/offsets"
	"github.com/lotline/lotline/topics"
)

// What an operator's look at the partitions, and moving one, is made of.
type (
	// Desk is where an operator looks and moves from. It is not for concurrent use.
	Desk = offsets.Desk
	// Standing is where a partition stands, as far as can be told from outside.
	Standing = offsets.Standing
	// Skip is what moving one partition gives up.
	Skip = offsets.Skip
)

// ErrMoved says that a partition is not where it was when the plan to move it was made.
var ErrMoved = offsets.ErrMoved

// Where a partition may be moved to besides an offset: just past what cannot be read, and to where its log starts.
const (
	SkipAuto     = offsets.Auto
	SkipLogStart = offsets.LogStart
)

// OpenDesk makes a Desk for the allocators of an installation with the database at url; the caller closes it. What they would
// decide it takes from the default rules.
func OpenDesk(kafka kafkaclient.Config, clientID, url string) (*Desk, error) {
	rules := DefaultConfig()
	return offsets.Open(topics.Declared(kafka.TopicPrefix), url, kafka.Opts(clientID),
		allocation.Limits{CutLinesMax: rules.CutLinesMax, CommandIDRetention: rules.CommandIDRetention})
}

// SkipsOrdered says whether plans, done at once, publish every SKU's versions in order. The error names what has to be
// published first.
func SkipsOrdered(plans ...*Skip) error { return offsets.Ordered(plans...) }
