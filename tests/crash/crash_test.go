//go:build integration

package crash_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/crash"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/workload"
)

func TestMain(m *testing.M) {
	servers.Init()
	os.Exit(m.Run())
}

// leftToMakeCrash are the drills that are not for every change.
var leftToMakeCrash = map[string]string{
	"connections":            "takes a minute",
	"postgres-frozen-holder": "takes half a minute: it waits out how long a transaction may take in Postgres, and in Kafka",
}

// The drills of `make crash`, with short outages and a small flood.
func TestDrillsOnApacheKafka(t *testing.T) {
	bin, err := crash.Build(t.Context(), "../..")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(bin) })
	hosts, err := crash.StartHosts(t.Context(), t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hosts.Close()) })
	options := crash.DrillOptions{Outage: 3 * time.Second, Commands: 3000, Flood: 3000, Mixed: 3000, Seed: 3}
	for _, drill := range crash.Drills {
		if leftToMakeCrash[drill.Name] != "" {
			continue
		}
		t.Run(drill.Name, func(t *testing.T) {
			result := drill.Run(t.Context(), hosts, bin, options, t.Output())
			require.NoError(t, crash.PrintDrills(t.Output(), []crash.DrillResult{result}))
			require.NoError(t, result.Err)
			require.NotEmpty(t, result.Effects)
		})
	}
}

// The same commands, once without and once with kills of allocators and projector, end in the same state.
func TestKilledProcessesLoseAndDoubleNothingOnApacheKafka(t *testing.T) {
	servers, err := crash.FromEnvironment()
	require.NoError(t, err)
	bin, err := crash.Build(t.Context(), "../..")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(bin) })
	mix := workload.Mix{Seed: 7, Commands: 20_000, SKUs: 100}
	var digests []string
	for _, rounds := range []int{0, 2} {
		result, err := crash.Scenario{Mix: mix, Rounds: rounds}.Run(t.Context(), servers, bin, t.Output())
		require.NoError(t, err)
		require.NoError(t, result.Report.Print(t.Output()))
		require.NoError(t, result.Report.Err())
		require.Equal(t, 2*rounds, result.Kills)
		digests = append(digests, result.Report.Digest)
	}
	require.Equal(t, digests[0], digests[1], "the end state does not depend on kills")
}
