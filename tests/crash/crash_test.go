//go:build integration

package crash_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/tests/crash"
	"github.com/lotline/lotline/tests/workload"
)

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
