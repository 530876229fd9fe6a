package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/tests/bench/report"
)

const (
	tick = time.Millisecond // what is due is sent so often
	// lateMax is how long after it was due a command's event may come, at the end of a run, for the rate to be kept up.
	lateMax = time.Second
)

// Latencies are how long after it was due each of a run's commands had its event, sorted.
type Latencies struct {
	Took   []time.Duration
	KeptUp float64 // the share of the events that were there a second after the last command was due
}

// Over is the share of the commands that took longer than that.
func (l Latencies) Over(most time.Duration) float64 {
	at, _ := slices.BinarySearch(l.Took, most+1)
	return float64(len(l.Took)-at) / float64(len(l.Took))
}

// Schedule says when each command of a run is due.
type Schedule struct {
	Start     time.Time
	PerSecond int
	Commands  int
}

// Due is when a command is, by its number.
func (s Schedule) Due(i int) time.Time {
	return s.Start.Add(time.Duration(i) * time.Second / time.Duration(s.PerSecond))
}

// end is until when what was sent counts as kept up with.
func (s Schedule) end() time.Time { return s.Due(s.Commands - 1).Add(lateMax) }

// Since are latencies of what came at those times, by the commands' numbers.
func (s Schedule) Since(numbers []int, came []time.Time) Latencies {
	var l Latencies
	for i, at := range came {
		l.Took = append(l.Took, at.Sub(s.Due(numbers[i])))
		if !at.After(s.end()) {
			l.KeptUp += 1 / float64(len(came))
		}
	}
	slices.Sort(l.Took)
	return l
}

// Report adds latencies to a row. Of a rate that was not kept up with they say how long the queue had become, and no more.
func (l Latencies) Report(r *report.Report, table, row string) {
	r.AddLatencies(table, row, l.Took)
	r.Add(table, row, "within a second of the last command", "%", 100*l.KeptUp)
}

// Pace sends the work's commands from a number on at a steady rate, each when it is due, whether or not what came before is done, and
// measures from then, so that what stands in a queue counts as waiting. begun is told before the first is due.
func (s *Site) Pace(ctx context.Context, d *Driver, w *Work, from, perSecond int, begun func(Schedule)) (Latencies, error) {
	producer, err := kgo.NewClient(append(s.Config.Opts("bench-pace"), kgo.ProducerLinger(0))...)
	if err != nil {
		return Latencies{}, err
	}
	defer producer.Close()
	records := make([]*kgo.Record, len(w.Commands)-from)
	for i := range records {
		records[i] = w.Commands[from+i].Record(s.Set.Commands.Name, w.Encoding)
	}
	schedule := Schedule{time.Now().Add(50 * time.Millisecond), perSecond, len(records)}
	begun(schedule)
	group, ctx := errgroup.WithContext(ctx)
	failed := make(chan error, 1)
	group.Go(func() error {
		for i := 0; i < len(records); {
			time.Sleep(time.Until(schedule.Due(i)))
			for now := time.Now(); i < len(records) && !schedule.Due(i).After(now); i++ {
				producer.Produce(ctx, records[i], func(_ *kgo.Record, err error) {
					if err != nil {
						select {
						case failed <- err:
						default:
						}
					}
				})
			}
			time.Sleep(tick)
		}
		return producer.Flush(ctx)
	})
	numbers, came := make([]int, 0, len(records)), make([]time.Time, 0, len(records))
	group.Go(func() error {
		seen := make([]bool, len(records))
		return d.each(ctx, len(records), func(r *kgo.Record, at time.Time) error {
			i, err := numberOf(r.Value)
			if i -= from; err != nil || i < 0 || i >= len(seen) || seen[i] {
				return errors.Join(err, fmt.Errorf("an event is of no command, or the second of one: %s", r.Value))
			}
			seen[i] = true
			numbers, came = append(numbers, i), append(came, at)
			return nil
		})
	})
	err = group.Wait()
	select {
	case refused := <-failed:
		err = errors.Join(err, fmt.Errorf("produce commands: %w", refused))
	default:
	}
	return schedule.Since(numbers, came), err
}

// numberOf is the number of the command whose event this is, in JSON. Only this one field is looked for: the driver shares
// the machine with what it measures, and what the events say is checked afterwards.
func numberOf(event []byte) (int, error) {
	const before = `"commandid":"` + commandPrefix
	at := bytes.Index(event, []byte(before))
	if at < 0 {
		return 0, fmt.Errorf("no id of a command")
	}
	digits, _, _ := bytes.Cut(event[at+len(before):], []byte(`"`))
	return strconv.Atoi(string(digits))
}
