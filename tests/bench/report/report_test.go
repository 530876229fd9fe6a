package report

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	require.InDelta(t, 2, Median([]float64{9, 1, 2}), 0)
	require.InDelta(t, 2.5, Median([]float64{9, 1, 2, 3}), 0)
	require.True(t, math.IsNaN(Median(nil)))
}

func TestAReportSaysWhereClickHousesFilesAre(t *testing.T) {
	here := t.TempDir()
	at, err := disk.Usage(here)
	require.NoError(t, err)
	require.NotEmpty(t, at.Fstype)
	t.Setenv("LOTLINE_TEST_CLICKHOUSE_DATA", here)
	require.Equal(t, at.Fstype, New("rebuild", nil, map[string]string{"kafka": "4.3"}).ClickHouseFiles)
	require.Empty(t, New("readmodels", nil, nil).ClickHouseFiles, "it has servers of its own")
	t.Setenv("LOTLINE_TEST_CLICKHOUSE_DATA", "")
	require.Empty(t, New("rebuild", nil, map[string]string{"kafka": "4.3"}).ClickHouseFiles)
}

func TestAReportSaysHowKafkaWasRun(t *testing.T) {
	t.Setenv("LOTLINE_TEST_KAFKA_JVM", "-Xmx1g")
	require.Equal(t, "-Xmx1g", New("allocator", nil, map[string]string{"kafka": "4.3"}).KafkaJVM)
	require.Empty(t, New("readmodels", nil, nil).KafkaJVM, "it has no Kafka")
}

func TestAReportIsPrintedAndStored(t *testing.T) {
	r := New("allocator", struct{ Rounds int }{3}, map[string]string{"postgres": "18.1"})
	for _, rate := range []float64{30_000, 20_000, 40_000} {
		r.Add("throughput", "4 partitions", "commands", "/s", rate)
	}
	r.Add("throughput", "1 partition", "commands", "/s", 1234.5)
	r.Add("throughput", "1 partition", "CPU", "us", 0.5)
	r.Add("floor", "a commit", "took", "ms", 2)
	require.InDelta(t, 30_000, r.Value("throughput", "4 partitions", "commands"), 0)
	require.True(t, math.IsNaN(r.Value("throughput", "4 partitions", "CPU")))

	var out strings.Builder
	require.NoError(t, r.Print(&out))
	_, tables, _ := strings.Cut(out.String(), "\n")
	require.Equal(t, `
    throughput  commands /s  CPU us
  4 partitions   30000 ±33%        
   1 partition         1234   0.500

     floor  took ms
  a commit     2.00
`, tables)

	dir := t.TempDir()
	require.NoError(t, r.Save(dir))
	text, err := os.ReadFile(filepath.Join(dir, "allocator.json"))
	require.NoError(t, err)
	var stored Report
	require.NoError(t, json.Unmarshal(text, &stored))
	require.Equal(t, []float64{30_000, 20_000, 40_000}, stored.Results[0].Rounds)
	require.Equal(t, "18.1", stored.Versions["postgres"])
	require.NotEmpty(t, stored.Machine.CPU)
	require.Positive(t, stored.Machine.MemoryGB)
}
