//go:build integration

package path

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// metricRow is a line of the table; what is compared looks like "lotline_x_total counter partition,stage".
var metricRow = regexp.MustCompile("(?m)^\\| `(lotline_\\w+)` \\| (\\w+) \\|([^|]*)\\|[^|]*\\|[^|]+\\|[^|]+\\|$")

// TestMetricsAreThoseOfTheTable boots every service, has each do something, and compares what they answer with the
// table that operators read: names, types and labels.
func TestMetricsAreThoseOfTheTable(t *testing.T) {
	text, err := os.ReadFile("../../METRICS.md")
	require.NoError(t, err)
	var documented []string
	for _, row := range metricRow.FindAllStringSubmatch(string(text), -1) {
		labels := strings.Fields(strings.ReplaceAll(row[3], "`", ""))
		slices.Sort(labels)
		documented = append(documented, row[1]+" "+row[2]+" "+strings.Join(labels, ","))
	}
	require.Len(t, documented, strings.Count(string(text), "\n| `lotline_"), "a row of METRICS.md cannot be read")
	slices.Sort(documented)
	documented = slices.Compact(documented)

	onKfake(t, func(p *pipeline) {
		p.produce([]*kgo.Record{record("c-1", createBatch, "TABLE", `{"ref":"b-1","sku":"TABLE","qty":10,"eta":null}`)})
		p.answers("/commands/c-1", `"outcome":"BatchCreated"`)
		require.EventuallyWithT(p, func(c *assert.CollectT) {
			var served []string
			for _, addr := range p.admins {
				served = append(served, scrape(c, "http://"+addr+"/metrics")...)
			}
			slices.Sort(served)
			require.Equal(c, documented, slices.Compact(served), "METRICS.md, and what the services answer")
		}, answerWithin, lookEvery)
	})
}

// scrape returns Lotline's metrics of one service, in the form of the table, and lints all.
func scrape(t require.TestingT, address string) []string {
	response, err := http.Get(address)
	require.NoError(t, err)
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	require.NoError(t, err)
	var served []string
	var ours []*dto.MetricFamily
	for name, family := range families {
		if !strings.HasPrefix(name, "lotline_") {
			require.Regexp(t, "^(go|process|promhttp)_", name)
			continue
		}
		ours = append(ours, family)
		var labels []string
		for _, pair := range family.Metric[0].Label {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		served = append(served, name+" "+strings.ToLower(family.GetType().String())+" "+strings.Join(labels, ","))
	}
	problems, err := promlint.NewWithMetricFamilies(ours).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	return served
}
