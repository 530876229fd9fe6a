package allocation

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// TestScenarios plays the stories under testdata/stories. Their directives:
//
//	limits cut-lines-max=2 retention=48h   (before the first run)
//	run        commands, one a line, applied as one poll:
//	           create REF SKU QTY [eta=DATE] | allocate ORDER SKU QTY |
//	           deallocate ORDER SKU | change REF SKU QTY
//	           each may carry id=ID, source=SOURCE and after=DURATION: the time since the command before
//	rows sku=X what is stored of X
//
// Each story is then told again twice, command by command from its rows alone and
// as one single poll: it must come out the same.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := &story{limits: Limits{CutLinesMax: 100_000, CommandIDRetention: 7 * 24 * time.Hour}}
		datadriven.RunTest(t, path, s.tell)
		s.tellAgain(t)
	})
}

type story struct {
	limits   Limits
	world    *world
	now      time.Time
	offset   int64
	commands []Command
	events   []Event
}

func (s *story) tell(t *testing.T, d *datadriven.TestData) string {
	if s.world == nil {
		s.world = newWorld(s.limits)
		s.now = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	}
	switch d.Cmd {
	case "limits":
		d.MaybeScanArgs(t, "cut-lines-max", &s.limits.CutLinesMax)
		var retention string
		if d.MaybeScanArgs(t, "retention", &retention) {
			var err error
			s.limits.CommandIDRetention, err = time.ParseDuration(retention)
			require.NoError(t, err)
		}
		s.world.limits = s.limits
		return ""
	case "run":
		var poll []Command
		for line := range strings.Lines(d.Input) {
			poll = append(poll, s.command(t, line))
		}
		events := s.world.poll(t, poll)
		s.commands, s.events = append(s.commands, poll...), append(s.events, events...)
		return narrate(strings.Split(d.Input, "\n"), events)
	case "rows":
		var sku string
		d.ScanArgs(t, "sku", &sku)
		return s.world.tables[sku].describe()
	default:
		d.Fatalf(t, "unknown directive")
		return ""
	}
}

func (s *story) tellAgain(t *testing.T) {
	apart, events := newWorld(s.limits), []Event(nil)
	for _, c := range s.commands {
		apart.forget(c.SKU)
		events = append(events, apart.poll(t, []Command{c})...)
	}
	require.Equal(t, s.events, events, "told command by command")
	require.Equal(t, s.world.tables, apart.tables)

	together := newWorld(s.limits)
	require.Equal(t, s.events, together.poll(t, s.commands), "told at once")
	require.Equal(t, s.world.tables, together.tables)
}

func (s *story) command(t *testing.T, line string) Command {
	c := Command{Position: Position{Partition: 3, Offset: s.offset}}
	s.offset++
	fields := strings.Fields(line)
	var plain []string
	for _, field := range fields[1:] {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "id":
			c.ID.ID = value
		case "source":
			c.ID.Source = value
		case "eta":
			c.ETA = value
		case "after":
			wait, err := time.ParseDuration(value)
			require.NoError(t, err)
			s.now = s.now.Add(wait)
		default:
			plain = append(plain, field)
		}
	}
	c.Time, c.SKU = s.now, plain[1]
	switch fields[0] {
	case "create":
		c.Kind, c.Ref = CreateBatch, plain[0]
	case "allocate":
		c.Kind, c.OrderID = Allocate, plain[0]
	case "deallocate":
		c.Kind, c.OrderID = Deallocate, plain[0]
		return c
	case "change":
		c.Kind, c.Ref = ChangeBatchQuantity, plain[0]
	default:
		require.Fail(t, "unknown command", line)
	}
	qty, err := strconv.ParseInt(plain[2], 10, 32)
	require.NoError(t, err)
	c.Qty = int32(qty)
	return c
}

// narrate writes each command above its events.
func narrate(commands []string, events []Event) string {
	var out strings.Builder
	for _, e := range events {
		if e.Seq == 0 {
			fmt.Fprintf(&out, "%s\n", commands[0])
			commands = commands[1:]
		}
		last := ""
		if e.Last {
			last = " last"
		}
		fmt.Fprintf(&out, "  [%d%s] v%d %s\n", e.Seq, last, e.Version, describe(e))
	}
	return out.String()
}

func describe(e Event) string {
	batch := fmt.Sprintf("%s (%d of %d left, %s)", e.BatchRef, e.BatchAvailable, e.BatchQty, arrival(e.ETA))
	switch e.Kind {
	case BatchCreated, BatchQuantityChanged:
		return fmt.Sprintf("%s %s; %s has %d", e.Kind, batch, e.SKU, e.Available)
	case Allocated:
		return fmt.Sprintf("%s %dx%s to %s; %s has %d", e.Kind, e.Qty, e.OrderID, batch, e.SKU, e.Available)
	case Deallocated:
		return fmt.Sprintf("%s %dx%s from %s, %s; %s has %d", e.Kind, e.Qty, e.OrderID, batch, e.Reason, e.SKU, e.Available)
	case OutOfStock:
		return fmt.Sprintf("%s %dx%s; %s has %d", e.Kind, e.Qty, e.OrderID, e.SKU, e.Available)
	default:
		named := strings.Join(strings.Fields(e.OrderID+" "+e.BatchRef), " ")
		return fmt.Sprintf("%s %s (%s): %s", e.Kind, e.Reason, named, e.Message)
	}
}

func (t *table) describe() string {
	var out strings.Builder
	fmt.Fprintf(&out, "version %d, available %d\n", t.version, t.available)
	for _, ref := range sortedKeys(t.batches) {
		b := t.batches[ref]
		fmt.Fprintf(&out, "batch %s: %d of %d left, %s, created at v%d with %d\n", ref, b.Available, b.Qty, arrival(b.ETA), b.CreatedVersion, b.CreatedQty)
	}
	for _, order := range sortedKeys(t.lines) {
		l := t.lines[order]
		fmt.Fprintf(&out, "line %s: %d, batch %q, allocated at v%d by %q\n", order, l.Qty, l.BatchRef, l.AllocatedVersion, l.Command.ID)
	}
	byID := map[string]Seen{}
	for id, s := range t.seen {
		byID[strings.TrimPrefix(id.Source+"/"+id.ID, "/")] = s
	}
	for _, id := range sortedKeys(byID) {
		fmt.Fprintf(&out, "seen %s at offset %d\n", id, byID[id].Position.Offset)
	}
	return out.String()
}
