package rebuild

import (
	"fmt"
	"io"
)

// Report is what was made and how it compares.
type Report struct {
	Store          string  `json:"store"`
	Generation     int     `json:"generation"`
	Live           int     `json:"live"` // before the switch; 0: none
	Rows           int64   `json:"rows"` // loaded, also by runs before this one
	Unit           string  `json:"unit"`
	FillSeconds    float64 `json:"fill_seconds"`
	ReadSeconds    float64 `json:"read_seconds"` // of filling from state, of all workers: to read the write side
	LoadSeconds    float64 `json:"load_seconds"` // and to write the rows
	CompareSeconds float64 `json:"compare_seconds"`
	SumSeconds     float64 `json:"sum_seconds"` // of comparing: to add up all rows
	SwitchSeconds  float64 `json:"switch_seconds"`

	SKUs          int   `json:"skus"`
	RowsCompared  int64 `json:"rows_compared"`
	SKUsDiffering int   `json:"skus_differing"` // new and write side at first sight: while events flow, many do
	LiveDiffering int   `json:"live_differing"` // live and write side at first sight

	New             []Fault `json:"new"`         // rows of the new generation that nothing explains, for the first SKUs
	Unexplained     int     `json:"unexplained"` // how many there are in all
	SKUsUnexplained int     `json:"skus_unexplained"`
	OfLive          []Fault `json:"of_live"`    // rows of the live one, for the first SKUs
	LiveWrong       int     `json:"live_wrong"` // SKUs that have such, or were not looked into

	Switched bool `json:"switched"`
}

// Fault is a row that is not what the write side says. An empty Is or Should stands for a row that is not there.
type Fault struct {
	SKU    string `json:"sku"`
	Row    string `json:"row,omitempty"`
	Is     string `json:"is,omitempty"`
	Should string `json:"should,omitempty"`

	at uint64 // the version that the row itself has
}

// still reports whether a fault that was found later is the same: the row was not written meanwhile.
func (f Fault) still(later Fault) bool {
	return f.SKU == later.SKU && f.Row == later.Row && f.at == later.at && f.Is == later.Is
}

// OK reports whether nothing speaks against the new generation.
func (r *Report) OK() bool { return r.SKUsUnexplained == 0 }

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	if r.FillSeconds > 0 && r.Rows > 0 {
		fmt.Fprintf(w, "generation %d of %s has %d %s loaded; this run took %.1f s to fill and %.1f s to compare\n", r.Generation, r.Store, r.Rows, r.Unit, r.FillSeconds, r.CompareSeconds)
	}
	fmt.Fprintf(w, "%d SKUs, %d rows of the write side compared; looked into row by row: %d SKUs of the new generation, %d of the live one\n",
		r.SKUs, r.RowsCompared, r.SKUsDiffering, r.LiveDiffering)
	printFaults(w, fmt.Sprintf("live %d", r.Live), r.OfLive)
	if more := r.LiveWrong - len(skusIn(r.OfLive)); more > 0 {
		fmt.Fprintf(w, "live %d: and %d more SKUs\n", r.Live, more)
	}
	printFaults(w, fmt.Sprintf("new %d", r.Generation), r.New)
	if more := r.Unexplained - len(r.New); more > 0 {
		fmt.Fprintf(w, "new %d: and %d more rows\n", r.Generation, more)
	}
	switch {
	case r.Switched:
		fmt.Fprintf(w, "Switched: readers are answered from generation %d. Generation %d is kept up to date beside it: go back with --rollback, end it with --drop.\n", r.Generation, r.Live)
	case !r.OK():
		fmt.Fprintf(w, "NOT switched: %d rows of %d SKUs of the new generation differ, and no version explains it. Run it again to compare again, or end it with --drop.\n", r.Unexplained, r.SKUsUnexplained)
	}
}

// PrintCompared writes the report of a comparison for people.
func (r *Report) PrintCompared(w io.Writer) {
	fmt.Fprintf(w, "%s: %d SKUs, %d rows of the write side compared, %d SKUs looked into row by row, in %.1f s\n", r.Store, r.SKUs, r.RowsCompared, r.SKUsDiffering, r.CompareSeconds)
	printFaults(w, "WRONG   "+r.Store, r.New)
	if more := r.Unexplained - len(r.New); more > 0 {
		fmt.Fprintf(w, "WRONG   %s: and %d more rows\n", r.Store, more)
	}
	if r.OK() {
		fmt.Fprintf(w, "%s = Postgres\n", r.Store)
	}
}

func skusIn(faults []Fault) map[string]bool {
	skus := make(map[string]bool)
	for _, f := range faults {
		skus[f.SKU] = true
	}
	return skus
}

func printFaults(w io.Writer, where string, faults []Fault) {
	for _, f := range faults {
		switch {
		case f.Row == "":
			fmt.Fprintf(w, "%s: %q is at %s; the write side has %s\n", where, f.SKU, f.Is, f.Should)
		case f.Is == "":
			fmt.Fprintf(w, "%s: %q %s is missing; the write side says %s\n", where, f.SKU, f.Row, f.Should)
		case f.Should == "":
			fmt.Fprintf(w, "%s: %q %s is %s; the write side has none\n", where, f.SKU, f.Row, f.Is)
		default:
			fmt.Fprintf(w, "%s: %q %s is %s; the write side says %s\n", where, f.SKU, f.Row, f.Is, f.Should)
		}
	}
}
