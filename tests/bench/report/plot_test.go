package report

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatWasMeasuredIsDrawn(t *testing.T) {
	r := New("allocator", nil, nil)
	for lines, rates := range map[string][]float64{"1000000 order lines": {30_000, 40_000}, "10000 order lines": {50_000, 54_000}} {
		r.Add("throughput", lines, "commands", "/s", rates...)
	}
	r.Add("throughput", "4 partitions", "commands", "/s", 54_321)
	r.Add("throughput", "4 partitions", "ceiling", "/s", 60_000)
	r.Plots = []Plot{
		{Name: "lines", Title: "Rate", Table: "throughput", Measures: []string{"commands"}, Row: "%d order lines", X: "order lines in Postgres", Y: "commands/s"},
		{Name: "rows", Title: "Rows", Table: "throughput", Measures: []string{"commands", "ceiling"}, Y: "commands/s"},
		{Name: "one-point", Table: "throughput", Measures: []string{"commands"}, Row: "%d partitions"},
		{Name: "nothing", Table: "latency", Measures: []string{"p50"}},
	}
	dir := t.TempDir()
	require.NoError(t, r.Save(dir))
	require.Equal(t, []string{"1 million", "10,000", "Rate", "commands/s", "order lines in Postgres"}, drawn(t, dir, "lines", "1 million", "10,000", "Rate", "commands/s", "order lines in Postgres", "54,321", "4 partitions"))
	require.Equal(t, []string{"4 partitions", "ceiling"}, drawn(t, dir, "rows", "4 partitions", "10000 order lines", "ceiling"))
	require.NoFileExists(t, filepath.Join(dir, "allocator-one-point.svg"))
	require.NoFileExists(t, filepath.Join(dir, "allocator-nothing.svg"))
}

// drawn are those of the texts that a picture has.
func drawn(t *testing.T, dir, name string, texts ...string) (found []string) {
	t.Helper()
	svg, err := os.ReadFile(filepath.Join(dir, "allocator-"+name+".svg"))
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(svg, new(struct{})))
	for _, text := range texts {
		if strings.Contains(string(svg), ">"+text+"<") {
			found = append(found, text)
		}
	}
	return found
}

func TestCurvesAreOfOneKindOfRow(t *testing.T) {
	p := Plot{Row: "%d SKUs"}
	require.InDelta(t, 100, p.number(&Result{Row: "100 SKUs"}), 0)
	for _, other := range []string{"200 SKUs with 1 batch", "one hot SKU", "100 order lines", "SKUs"} {
		require.Zero(t, p.number(&Result{Row: other}), other)
	}
}

func TestNumbersArePrintedForPeople(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.5: "0.5", 999: "999", 1000: "1,000", 54_321: "54,321", 50_000_000: "50 million", 2_500_000: "2.5 million"} {
		require.Equal(t, want, inWords(n))
	}
}
