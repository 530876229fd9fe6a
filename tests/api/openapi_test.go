//go:build integration

package api

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The description is held against what the gateway answers, by a program that makes up requests from it: those that should
// be good, those that are bad in every way that it can think of, and sequences of them.
func TestTheGatewayAnswersAsItsDescriptionSays(t *testing.T) {
	folder, err := Schemathesis(t.Context())
	require.NoError(t, err)
	dir, err := folder.Dir(t.Context())
	require.NoError(t, err)
	onKfake(t, func(s *site) {
		// What the examples in the description are about is there.
		require.Equal(s, 201, s.ask(s.gateway, "POST", "/batches", `{"ref":"batch-1","sku":"SMALL-TABLE","qty":100,"eta":null}`, "Prefer", "wait=10").status)
		told := s.ask(s.gateway, "POST", "/orders/order-1/lines", `{"sku":"SMALL-TABLE","qty":3}`, "Idempotency-Key", "c-1", "Prefer", "wait=10")
		require.Equal(s, 201, told.status)
		require.EventuallyWithT(s, func(c *assert.CollectT) {
			require.Equal(c, 200, s.ask(s.gateway, "GET", "/commands/c-1?after="+url.QueryEscape(told.header.Get("Lotline-Token")), "").status)
		}, within, look)

		ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
		defer cancel()
		run := exec.CommandContext(ctx, filepath.Join(dir, "venv", "bin", "st"), "--config-file", must(filepath.Abs("schemathesis.toml")),
			"run", s.gateway+"/openapi.json", "--no-color")
		run.Dir = s.TempDir()
		run.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS="+must(filepath.Abs("schemathesis_hooks.py")))
		said, err := run.CombinedOutput()
		s.Logf("%s", said)
		require.NoError(s, err)
	})
}

func must(path string, err error) string {
	if err != nil {
		panic(err)
	}
	return path
}
