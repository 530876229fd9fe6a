package verify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/schemas"
)

// Keys and rows of the folded state. The rows are what all stores must agree on.
type (
	lineKey  struct{ orderid, sku string }
	lineRow  struct{ batchref string }
	batchKey struct{ sku, ref string }
	batchRow struct {
		qty, available int32
		eta            string
	}
	skuRow struct {
		version   uint64
		available int64
	}
	outcomeRow struct {
		commandid, commandsource, kind, sku string
		version                             uint64
		orderid, batchref, reason, message  string
	}
)

// state is what the events say, and what was counted on the way.
type state struct {
	lines    map[lineKey]lineRow
	qtys     map[lineKey]int32
	batches  map[batchKey]batchRow
	skus     map[string]skuRow
	changes  int                   // events that changed a SKU
	outcomes map[string]int        // last events by the command's place
	last     map[string]outcomeRow // last events by id
	seqs     map[string]int        // events by the command's place
}

// fold replays the events and checks what must hold at every version.
func fold(report *Report, records []*kgo.Record) *state {
	s := &state{
		lines: map[lineKey]lineRow{}, qtys: map[lineKey]int32{}, batches: map[batchKey]batchRow{}, skus: map[string]skuRow{},
		outcomes: map[string]int{}, seqs: map[string]int{}, last: map[string]outcomeRow{},
	}
	ids := make(map[string]bool, len(records))
	var events []event
	for _, r := range records {
		envelope, e, err := cloudevents.Decode(r.Headers, r.Value, schemas.DecodeEvent)
		if err != nil {
			report.fault("event %d@%d: %v", r.Partition, r.Offset, err)
			continue
		}
		if ids[envelope.ID] {
			report.fault("event %s is there twice", envelope.ID)
			continue
		}
		ids[envelope.ID] = true
		events = append(events, event{envelope.ID, r.Partition, e})
	}
	for _, e := range inOrder(report, events) {
		s.count(report, e.id, &e.Event)
		s.apply(report, e.id, &e.Event)
	}
	report.compared("events, each id once, versions of every SKU without a hole", len(ids))
	return s
}

// event is one that was read, and where.
type event struct {
	id        string
	partition int32
	schemas.Event
}

// inOrder sorts events by the versions of their SKUs, after it has seen that each partition has them so, also where a SKU's
// commands came over several partitions. An outcome that changes nothing names a version that was there already; where
// commands came over several, others may have followed meanwhile.
func inOrder(report *Report, events []event) []event {
	type place struct {
		partition int32
		sku       string
	}
	latest := make(map[place]uint64)
	commandsOn, eventsOn := make(map[string]string), make(map[string]string) // by SKU, a partition, or "many"
	note := func(on map[string]string, sku, partition string) {
		if known, ok := on[sku]; ok && known != partition {
			partition = "many"
		}
		on[sku] = partition
	}
	for _, e := range events {
		note(commandsOn, e.SKU, commandPartition(e.id))
		note(eventsOn, e.SKU, strconv.Itoa(int(e.partition)))
	}
	for _, e := range events {
		at := place{e.partition, e.SKU}
		if e.Version < latest[at] && (e.Type.ChangesState() || commandsOn[e.SKU] != "many") {
			report.fault("event %s of %s is version %d, and comes after version %d in partition %d", e.id, e.SKU, e.Version, latest[at], e.partition)
		}
		if e.Type.ChangesState() {
			latest[at] = e.Version
		} else if e.Version > latest[at] && eventsOn[e.SKU] != "many" {
			report.fault("event %s of %s names version %d, and only %d is there before it in partition %d", e.id, e.SKU, e.Version, latest[at], e.partition)
		}
	}
	slices.SortStableFunc(events, func(a, b event) int {
		changesNothing := func(e event) int {
			if e.Type.ChangesState() {
				return 0
			}
			return 1
		}
		return cmp.Or(strings.Compare(a.SKU, b.SKU), cmp.Compare(a.Version, b.Version), changesNothing(a)-changesNothing(b))
	})
	return events
}

// commandPartition is the second part of an event's id, topic/partition/offset/seq.
func commandPartition(id string) string {
	_, rest, _ := strings.Cut(id, "/")
	partition, _, _ := strings.Cut(rest, "/")
	return partition
}

// count checks that a command's events come in order and end once.
func (s *state) count(report *Report, id string, e *schemas.Event) {
	cut := strings.LastIndexByte(id, '/')
	if cut < 0 {
		report.fault("event id %q is not topic/partition/offset/seq", id)
		return
	}
	command := id[:cut]
	if seq := strconv.Itoa(s.seqs[command]); id[cut+1:] != seq || strconv.Itoa(int(e.Seq)) != seq {
		report.fault("event %s (seq %d) comes where seq %s was due", id, e.Seq, seq)
	}
	s.seqs[command]++
	if e.Last {
		s.outcomes[command]++
		s.last[id] = outcomeRow{e.CommandID, e.CommandSource, e.Type.String(), e.SKU, e.Version, e.OrderID, e.BatchRef, e.Reason, e.Message}
	}
}

func (s *state) apply(report *Report, id string, e *schemas.Event) {
	before := s.skus[e.SKU]
	if !e.Type.ChangesState() {
		if e.Version != before.version {
			report.fault("event %s of %s changes nothing and says version %d at %d", id, e.SKU, e.Version, before.version)
		}
		return
	}
	s.changes++
	if e.Version != before.version+1 {
		report.fault("event %s of %s is version %d after %d", id, e.SKU, e.Version, before.version)
	}
	s.skus[e.SKU] = skuRow{e.Version, e.Available}
	line := lineKey{e.OrderID, e.SKU}
	switch e.Type {
	case schemas.EventAllocated:
		if held, ok := s.lines[line]; ok {
			report.fault("event %s allocates line %v to %s, and it is in %s", id, line, e.BatchRef, held.batchref)
		}
		s.lines[line], s.qtys[line] = lineRow{e.BatchRef}, e.Qty
	case schemas.EventDeallocated:
		if held := s.lines[line]; held.batchref != e.BatchRef {
			report.fault("event %s takes line %v out of %s, and it is in %q", id, line, e.BatchRef, held.batchref)
		}
		delete(s.lines, line)
		delete(s.qtys, line)
	}
	if e.BatchRef == "" {
		if e.Available != before.available {
			report.fault("event %s says that %d of %s are available, before it were %d", id, e.Available, e.SKU, before.available)
		}
		return
	}
	if e.BatchAvailable < 0 || e.BatchAvailable > e.BatchQty {
		report.fault("event %s: batch %s has %d of %d available", id, e.BatchRef, e.BatchAvailable, e.BatchQty)
	}
	key := batchKey{e.SKU, e.BatchRef}
	available := before.available + int64(e.BatchAvailable) - int64(s.batches[key].available)
	if available != e.Available {
		report.fault("event %s says that %d of %s are available, its batches have %d", id, e.Available, e.SKU, available)
	}
	s.batches[key] = batchRow{e.BatchQty, e.BatchAvailable, e.ETA}
}

// checkOutcomes: exactly one outcome for each command that can be read, and no event of anything else.
func checkOutcomes(report *Report, readable map[string]bool, s *state) {
	for command := range s.outcomes {
		if !readable[command] {
			report.fault("the events of %s belong to no command that can be read", command)
		}
	}
	for command := range readable {
		if n := s.outcomes[command]; n != 1 {
			report.fault("command %s has %d outcomes", command, n)
		}
	}
	report.compared("outcomes, exactly one for each of them", len(s.outcomes))
}

// checkDeadLetters: exactly the unreadable commands, each once, with its bytes. A dead letter does not tell one topic
// from another of the same name.
func checkDeadLetters(report *Report, unreadable Commands, dead []*kgo.Record) {
	waiting := make(map[string][]*kgo.Record)
	for command, r := range unreadable {
		_, place, _ := strings.Cut(command, "/")
		waiting[place] = append(waiting[place], r)
	}
	seen := make(map[string]bool, len(dead))
	for _, r := range dead {
		headers := make(map[string]string)
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		place := headers["dlq_partition"] + "/" + headers["dlq_offset"]
		same := slices.IndexFunc(waiting[place], func(original *kgo.Record) bool {
			return string(original.Value) == string(r.Value) && string(original.Key) == string(r.Key)
		})
		switch {
		case same < 0 && len(waiting[place]) > 0:
			report.fault("dead letter of %s has other bytes than the command", place)
		case same < 0 && seen[place]:
			report.fault("dead letter of %s is there twice", place)
		case same < 0:
			report.fault("dead letter of %s, which can be read: %s", place, headers["dlq_reason"])
		case headers["dlq_reason"] == "":
			report.fault("dead letter of %s does not say why", place)
		}
		if seen[place] = true; same >= 0 {
			waiting[place] = slices.Delete(waiting[place], same, same+1)
		}
	}
	for place, left := range waiting {
		for range left {
			report.fault("unreadable command %s has no dead letter", place)
		}
	}
	report.compared("dead letters, exactly the unreadable commands", len(dead))
}

// split tells commands that can be read from those that cannot.
func split(commands Commands) (readable map[string]bool, unreadable Commands) {
	readable, unreadable = map[string]bool{}, Commands{}
	for command, r := range commands {
		_, _, err := cloudevents.Decode(r.Headers, r.Value, schemas.DecodeCommand)
		if err != nil {
			unreadable[command] = r
		} else {
			readable[command] = true
		}
	}
	return readable, unreadable
}

// digest names the state: equal states have equal digests.
func (s *state) digest() string {
	hash := sha256.New()
	write := func(rows []string) {
		slices.Sort(rows)
		for _, row := range rows {
			fmt.Fprintln(hash, row)
		}
	}
	write(rowsOf(s.lines))
	write(rowsOf(s.batches))
	write(rowsOf(s.skus))
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

func rowsOf[K comparable, V any](m map[K]V) []string {
	rows := make([]string, 0, len(m))
	for k := range maps.Keys(m) {
		rows = append(rows, fmt.Sprintf("%v %v", k, m[k]))
	}
	return rows
}
