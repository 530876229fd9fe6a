package commandlog

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// hand is what was taken from the client and is not polled yet, in the order in which it came.
//
// The client hands out one partition after the other. Polls of its making often have most records of one lane, and the others have
// nothing to do until those are committed. So all that it has is taken, and dealt. Nothing more is taken before all is dealt:
// what cannot be read behind a record is heeded once that is published, as ever.
//
// Where the client goes back in a partition, what the hand has of it is dropped (setPositions), or it would come twice:
//
//	0..9 of a partition are in the hand, and the client is at 10
//	the client is set to 0 and brings 0..9 again
//	dealt behind those of before, they are behind the poll's end: decided twice, or never, as the division falls
//
// And when the group moves on all of it is given up with the poll, since it may be of partitions that are another's now.
type hand struct {
	portions   []portion
	records    int
	generation int32 // of the group, when it was taken
}

// portion is a run of one partition's records.
type portion struct {
	topicID   [16]byte
	partition int32
	records   []*kgo.Record
}

// add takes what was fetched.
func (h *hand) add(fetches kgo.Fetches) {
	fetches.EachTopic(func(t kgo.FetchTopic) {
		for _, f := range t.Partitions {
			if len(f.Records) > 0 {
				h.portions = append(h.portions, portion{t.TopicID, f.Partition, f.Records})
				h.records += len(f.Records)
			}
		}
	})
}

// restShare: rather than leave a rest of a third of a poll or less, which would be a step of its own, a poll takes it too.
const restShare = 3

// deal takes a poll of recordsMax, 1 at the least, or a third more if that is all: as many of each lane that has any, as far as it has them.
//
// A partition's lane is asked for once: it may be another the next time, once the partition was taken away.
//
//	of partition 0 there are 0..9 and, behind partition 1's, 10..19; its lane has had its share
//	it is revoked, and another lane is named, which has none yet
//	10..19 are dealt, and 0..9 are passed over
func (h *hand) deal(recordsMax int, lane func(partition int32) int) []portion {
	if h.records <= recordsMax+recordsMax/restShare {
		all := h.portions
		h.portions, h.records = nil, 0
		return all
	}
	of := make(map[int32]int) // lanes, by partition
	left := make(map[int]int) // by lane
	for _, p := range h.portions {
		if _, known := of[p.partition]; !known {
			of[p.partition] = lane(p.partition)
		}
		left[of[p.partition]] = 0
	}
	each := max(1, recordsMax/len(left))
	for l := range left {
		left[l] = each
	}
	var dealt, rest []portion
	for _, p := range h.portions {
		l := of[p.partition]
		n := min(len(p.records), left[l], recordsMax)
		left[l], recordsMax, h.records = left[l]-n, recordsMax-n, h.records-n
		if n > 0 {
			dealt = append(dealt, portion{p.topicID, p.partition, p.records[:n:n]})
		}
		if n < len(p.records) {
			rest = append(rest, portion{p.topicID, p.partition, p.records[n:]})
		}
	}
	h.portions = rest
	return dealt
}

// drop forgets the records of partitions that the client goes back in.
func (h *hand) drop(back func(partition int32) bool) {
	h.portions = slices.DeleteFunc(h.portions, func(p portion) bool { return back(p.partition) })
	h.records = 0
	for _, p := range h.portions {
		h.records += len(p.records)
	}
}
