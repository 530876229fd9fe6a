// Package report keeps what benchmarks measured: it prints tables, stores each round's value and the median, with the
// machine, the versions, the settings and the commit, in a file of JSON, and draws curves and bars beside it.
//
// The benchmarks call it. It imports nothing of Lotline.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
)

// Report is what one run of a benchmark came to. Its methods are not for concurrent use.
type Report struct {
	Bench    string            `json:"bench"`
	At       time.Time         `json:"at"` // when it began
	Commit   string            `json:"commit"`
	Machine  Machine           `json:"machine"`
	Versions map[string]string `json:"versions"` // of Go, the servers and the Go modules
	Settings any               `json:"settings"` // the benchmark's flags
	// ClickHouseFiles is the type of the file system that has ClickHouse's files, as statfs tells it: tmpfs is memory, and
	// any ext is ext2/ext3. It is empty if tests/cmd/servers started none
	// for the benchmark.
	ClickHouseFiles string `json:"clickhouse_files,omitempty"`
	// KafkaJVM are the options of Apache Kafka's JVM; empty as above.
	KafkaJVM string    `json:"kafka_jvm,omitempty"`
	Results  []*Result `json:"results"`
	Plots    []Plot    `json:"-"` // of what Save draws, if it was measured
}

// Result is what one measure of one row came to.
type Result struct {
	Table   string    `json:"table"`
	Row     string    `json:"row"`
	Measure string    `json:"measure"`
	Unit    string    `json:"unit"`
	Rounds  []float64 `json:"rounds"` // in the order in which they were measured
	Median  float64   `json:"median"`
}

// Machine is where it ran.
type Machine struct {
	CPU      string  `json:"cpu"`
	Cores    int     `json:"cores"`
	MemoryGB float64 `json:"memory_gb"`
	Kernel   string  `json:"kernel"`
	Load     string  `json:"load"` // of the last 1, 5 and 15 minutes, when it began
}

// New begins a report. servers are the versions of what else takes part, by name; none if the benchmark starts its own.
func New(bench string, settings any, servers map[string]string) *Report {
	r := &Report{Bench: bench, At: time.Now().UTC().Truncate(time.Second), Commit: commit(), Machine: machine(), Versions: map[string]string{"go": runtime.Version()}, Settings: settings}
	for name, version := range servers {
		r.Versions[name] = version
	}
	if len(servers) > 0 {
		if at, err := disk.Usage(os.Getenv("LOTLINE_TEST_CLICKHOUSE_DATA")); err == nil {
			r.ClickHouseFiles = at.Fstype
		}
		r.KafkaJVM = os.Getenv("LOTLINE_TEST_KAFKA_JVM")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			for _, client := range []string{"franz-go", "pgx/v5", "clickhouse-go/v2"} {
				if strings.HasSuffix(m.Path, "/"+client) {
					r.Versions[client] = m.Version
				}
			}
		}
	}
	return r
}

// commit is the checkout's, with a mark if it has changes; empty outside of one.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// machine reads what Linux says of it; what it does not say is left out.
func machine() Machine {
	read := func(file string) string {
		text, _ := os.ReadFile(file)
		return string(text)
	}
	after := func(text, name string) string {
		_, rest, _ := strings.Cut(text, name)
		line, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSpace(strings.TrimLeft(line, "\t :"))
	}
	var kib float64
	if _, err := fmt.Sscan(after(read("/proc/meminfo"), "MemTotal"), &kib); err != nil {
		kib = 0
	}
	load, _, _ := strings.Cut(read("/proc/loadavg"), "/")
	return Machine{
		CPU: after(read("/proc/cpuinfo"), "model name"), Cores: runtime.NumCPU(), MemoryGB: math.Round(kib / (1 << 20)),
		Kernel: strings.TrimSpace(read("/proc/sys/kernel/osrelease")), Load: strings.Join(strings.Fields(load)[:min(3, len(strings.Fields(load)))], " "),
	}
}

// Add adds a round's value, or several. Rows of a table, and its measures, are shown in the order in which they first came.
func (r *Report) Add(table, row, measure, unit string, values ...float64) {
	at := slices.IndexFunc(r.Results, func(x *Result) bool { return x.Table == table && x.Row == row && x.Measure == measure })
	if at < 0 {
		at = len(r.Results)
		r.Results = append(r.Results, &Result{Table: table, Row: row, Measure: measure, Unit: unit})
	}
	result := r.Results[at]
	result.Rounds = append(result.Rounds, values...)
	result.Median = Median(result.Rounds)
}

// Value is the median of what was measured; NaN if nothing was.
func (r *Report) Value(table, row, measure string) float64 {
	for _, x := range r.Results {
		if x.Table == table && x.Row == row && x.Measure == measure {
			return x.Median
		}
	}
	return math.NaN()
}

// Median is the middle of values, or of the two in the middle the mean; NaN of none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Print writes the tables, a line a row and a column a measure: the median, and with several rounds half of what lies
// between the least and the most, as a share of it.
func (r *Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s, commit %s; %d cores (%s), load %s\n", r.Bench, r.At.Format(time.DateTime), r.Commit, r.Machine.Cores, r.Machine.CPU, r.Machine.Load)
	for _, table := range r.Tables() {
		in := slices.DeleteFunc(slices.Clone(r.Results), func(x *Result) bool { return x.Table != table })
		measures := distinct(in, func(x *Result) string { return x.Measure + "\n" + x.Unit })
		out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(out, "\n%s\t", table)
		for _, m := range measures {
			fmt.Fprintf(out, "%s\t", strings.TrimSpace(strings.Replace(m, "\n", " ", 1)))
		}
		fmt.Fprintln(out)
		for _, row := range distinct(in, func(x *Result) string { return x.Row }) {
			fmt.Fprintf(out, "%s\t", row)
			for _, m := range measures {
				cell := ""
				for _, x := range in {
					if x.Row == row && x.Measure+"\n"+x.Unit == m {
						cell = x.cell()
					}
				}
				fmt.Fprintf(out, "%s\t", cell)
			}
			fmt.Fprintln(out)
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// Tables are the names of the tables, in the order in which they first came.
func (r *Report) Tables() []string {
	return distinct(r.Results, func(x *Result) string { return x.Table })
}

func distinct(results []*Result, key func(*Result) string) (keys []string) {
	for _, x := range results {
		if k := key(x); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// cell is three digits of the median at least, and all that stand before the point.
func (x *Result) cell() string {
	decimals := 0
	for size := math.Abs(x.Median); size < 100 && size > 0 && decimals < 3; size *= 10 {
		decimals++
	}
	text := fmt.Sprintf("%.*f", decimals, x.Median)
	if len(x.Rounds) > 1 && x.Median != 0 {
		text += fmt.Sprintf(" ±%.0f%%", 50*(slices.Max(x.Rounds)-slices.Min(x.Rounds))/math.Abs(x.Median))
	}
	return text
}

// Save writes dir/BENCH.json, in place of an older one, and the plots.
func (r *Report) Save(dir string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("write the results of %s: %w", r.Bench, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a folder for the results: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, r.Bench+".json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	for _, p := range r.Plots {
		if err := p.saveTo(dir, r); err != nil {
			return fmt.Errorf("draw %s of %s: %w", p.Name, r.Bench, err)
		}
	}
	return nil
}

// Done prints the report, and saves it before if there is a folder for it.
func (r *Report) Done(w io.Writer, dir string) error {
	if dir != "" {
		if err := r.Save(dir); err != nil {
			return err
		}
	}
	return r.Print(w)
}
