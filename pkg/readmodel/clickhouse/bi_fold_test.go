//go:build integration

package clickhouse

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/readmodeltest"
	"github.com/lotline/lotline/schemas"
)

// businessHistory is a history with what people ask about: batches that arrive soon, cuts that move lines and drop them.
func businessHistory(seed uint64, events int) *readmodeltest.History {
	h := readmodeltest.New(seed, events)
	random := rand.New(rand.NewPCG(seed, 2))
	reasons := []string{"invalid_sku", "conflicting_line", "cut_too_large"}
	start := h.Records[0].Time
	for i := range h.Records {
		r := &h.Records[i]
		r.Time = start.Add(30 * r.Time.Sub(start)) // over days, with hours in which nothing happens to a SKU
		r.Event.Seq = max(0, random.Int32N(6)-3)
		if r.Event.ETA != "" {
			r.Event.ETA = r.Time.AddDate(0, 0, random.IntN(40)-5).Format(time.DateOnly)
		}
		switch r.Event.Type {
		case schemas.EventDeallocated:
			r.Event.Reason = []string{"requested", "batch_quantity_changed"}[random.IntN(2)]
		case schemas.EventCommandRejected:
			r.Event.Reason = reasons[random.IntN(len(reasons))]
		}
	}
	return h
}

// place is where numbers of BI belong: of an hour and SKU, and a third thing.
type place struct {
	hour time.Time
	sku  string
	more string
}

// folded is what the views must say after a history, by the definition of their columns and without SQL.
type folded struct {
	hourly     map[place]*hourly
	leads      map[place]*[2]int64 // more: days
	rejections map[place]int64     // more: reason
	newest     time.Time           // hour with an event
}

type hourly struct {
	version                                           uint64
	left                                              int64
	stock, shipment, out, deallocated, moved, dropped [2]int64 // lines, units
}

func (h *hourly) String() string {
	sum := func(lists ...[2]int64) (lines, units int64) {
		for _, l := range lists {
			lines, units = lines+l[0], units+l[1]
		}
		return lines, units
	}
	asked, askedUnits := sum(h.stock, h.shipment, h.out)
	got, gotUnits := sum(h.stock, h.shipment)
	return fmt.Sprint([]int64{asked, askedUnits, got, gotUnits}, h.stock, h.shipment, h.out, h.deallocated, h.moved, h.dropped, h.left)
}

func fold(records []readmodel.Record) folded {
	f := folded{hourly: map[place]*hourly{}, leads: map[place]*[2]int64{}, rejections: map[place]int64{}}
	for i := range records {
		r := &records[i]
		e := &r.Event
		at := place{hour: r.Time.Truncate(time.Hour), sku: e.SKU}
		if e.Type == schemas.EventCommandRejected {
			at.more = e.Reason
			f.rejections[at]++
		}
		if !e.Type.ChangesState() {
			continue
		}
		if at.hour.After(f.newest) {
			f.newest = at.hour
		}
		h := f.hourly[at]
		if h == nil {
			h = new(hourly)
			f.hourly[at] = h
		}
		if e.Version > h.version {
			h.version, h.left = e.Version, e.Available
		}
		var into *[2]int64
		switch {
		case e.Type == schemas.EventAllocated && e.Seq == 0:
			days := leadDays(r)
			into = &h.stock
			if days > 0 {
				into = &h.shipment
			}
			at.more = fmt.Sprint(days)
			if f.leads[at] == nil {
				f.leads[at] = new([2]int64)
			}
			f.leads[at][0], f.leads[at][1] = f.leads[at][0]+1, f.leads[at][1]+int64(e.Qty)
		case e.Type == schemas.EventAllocated:
			into = &h.moved
		case e.Type == schemas.EventOutOfStock && e.Seq == 0:
			into = &h.out
		case e.Type == schemas.EventOutOfStock:
			into = &h.dropped
		case e.Type == schemas.EventDeallocated && e.Reason == "requested":
			into = &h.deallocated
		default:
			continue
		}
		into[0], into[1] = into[0]+1, into[1]+int64(e.Qty)
	}
	return f
}

func leadDays(r *readmodel.Record) int {
	eta, err := time.Parse(time.DateOnly, r.Event.ETA)
	if err != nil { // in stock
		return 0
	}
	return max(0, int(eta.Sub(r.Time.Truncate(24*time.Hour)).Hours()/24))
}

const hourFormat = "2006-01-02 15:04:05"

// hourlyColumns are those of a view as businessViews compares them.
const hourlyColumns = `toString(hour), '|', sku, '|', toString([lines_requested, units_requested, lines_allocated, units_allocated]), ' ',
	toString([lines_from_stock, units_from_stock]), ' ', toString([lines_from_shipments, units_from_shipments]), ' ', toString([lines_out_of_stock, units_out_of_stock]), ' ',
	toString([lines_deallocated, units_deallocated]), ' ', toString([lines_moved, units_moved]), ' ', toString([lines_dropped, units_dropped]), ' ', toString(units_left)`

const hourlyQuery = `SELECT replaceAll(concat(` + hourlyColumns + `), ',', ' ') FROM bi_hourly`

// views returns the queries for the views' content, and the rows that each must answer, sorted.
func (f folded) views() map[string][]string {
	expected := make(map[string][]string)
	add := func(query, row string, values ...any) {
		expected[query] = append(expected[query], fmt.Sprintf(row, values...))
	}
	for at, h := range f.hourly {
		add(hourlyQuery, "%s|%s|%s", at.hour.Format(hourFormat), at.sku, h)
	}
	for at, lead := range f.leads {
		add(`SELECT concat(toString(hour), '|', sku, '|', toString(lead_days), '|', toString(lines), '|', toString(units)) FROM bi_lead_times`,
			"%s|%s|%s|%d|%d", at.hour.Format(hourFormat), at.sku, at.more, lead[0], lead[1])
	}
	for at, commands := range f.rejections {
		add(`SELECT concat(toString(hour), '|', sku, '|', reason, '|', toString(commands)) FROM bi_rejections`, "%s|%s|%s|%d", at.hour.Format(hourFormat), at.sku, at.more, commands)
	}
	f.addAvailability(add)
	f.addDays(add)
	for _, rows := range expected {
		slices.Sort(rows)
	}
	return expected
}

// addAvailability carries what a SKU had left over the hours in which nothing happened to it.
func (f folded) addAvailability(add func(query, row string, values ...any)) {
	first := make(map[string]time.Time)
	for at := range f.hourly {
		if old, ok := first[at.sku]; !ok || at.hour.Before(old) {
			first[at.sku] = at.hour
		}
	}
	for sku, hour := range first {
		var left int64
		for ; !hour.After(f.newest); hour = hour.Add(time.Hour) {
			if h := f.hourly[place{hour: hour, sku: sku}]; h != nil {
				left = h.left
			}
			add(`SELECT concat(toString(hour), '|', sku, '|', toString(units_left), '|', toString(available)) FROM bi_availability`,
				"%s|%s|%d|%t", hour.Format(hourFormat), sku, left, left > 0)
		}
	}
}

func (f folded) addDays(add func(query, row string, values ...any)) {
	type day struct{ asked, stock, got, out int64 } // units
	days := make(map[place]*day)
	for at, h := range f.hourly {
		at.hour = at.hour.Truncate(24 * time.Hour)
		if days[at] == nil {
			days[at] = new(day)
		}
		d := days[at]
		d.stock, d.got, d.out = d.stock+h.stock[1], d.got+h.stock[1]+h.shipment[1], d.out+h.out[1]
		d.asked = d.got + d.out
	}
	ranked := make(map[time.Time][]place)
	for at, d := range days {
		fill, out := "none", "none"
		if d.asked > 0 {
			fill, out = fmt.Sprintf("%.4f", float64(d.stock)/float64(d.asked)), fmt.Sprintf("%.4f", float64(d.out)/float64(d.asked))
			ranked[at.hour] = append(ranked[at.hour], at)
		}
		add(`SELECT format('{}|{}|{}|{}|{}|{}|{}|{}', toString(day), sku, toString(units_requested), toString(units_from_stock), toString(units_allocated), toString(units_out_of_stock),
			ifNull(printf('%.4f', fill_rate), 'none'), ifNull(printf('%.4f', out_of_stock_rate), 'none')) FROM bi_service_levels`,
			"%s|%s|%d|%d|%d|%d|%s|%s", at.hour.Format(time.DateOnly), at.sku, d.asked, d.stock, d.got, d.out, fill, out)
	}
	for _, places := range ranked {
		slices.SortFunc(places, func(a, b place) int {
			if asked := days[b].asked - days[a].asked; asked != 0 {
				return int(asked)
			}
			if a.sku < b.sku {
				return -1
			}
			return 1
		})
		for i, at := range places {
			add(`SELECT format('{}|{}|{}|{}', toString(day), toString(place), sku, toString(units_requested)) FROM bi_top_skus`,
				"%s|%d|%s|%d", at.hour.Format(time.DateOnly), i+1, at.sku, days[at].asked)
		}
	}
}
