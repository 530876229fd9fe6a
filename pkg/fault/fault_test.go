package fault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotline/lotline/pkg/fault"
	"github.com/stretchr/testify/require"
)

var errDown = errors.New("connection refused")

func TestRetryWaitsAnOutageOutAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		start := time.Now()
		var calls []time.Time
		err := fault.Retry(t.Context(), log, "read from Postgres", func(context.Context) error {
			calls = append(calls, time.Now())
			if time.Since(start) < 35*time.Second {
				return errDown
			}
			return nil
		})
		require.NoError(t, err)

		require.Less(t, calls[1].Sub(calls[0]), 100*time.Millisecond, "the first pause is short")
		for i := 1; i < len(calls); i++ {
			// 5 s, varied by half to either side.
			require.LessOrEqual(t, calls[i].Sub(calls[i-1]), 7500*time.Millisecond)
		}
		require.Less(t, len(calls), 40, "pauses grow")

		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		warnings := lines[:len(lines)-1]
		require.Contains(t, warnings[0], "failures=1 ")
		require.Contains(t, warnings[0], `msg="could not read from Postgres, trying again" error="connection refused"`)
		require.GreaterOrEqual(t, len(warnings), 2, "a long outage is repeated in the log")
		require.LessOrEqual(t, len(warnings), 5, "at most every 10 s")
		require.Contains(t, lines[len(lines)-1], `msg="could read from Postgres again"`)
	})
}

// The library gives up after a quarter of an hour if it is not told otherwise.
func TestRetryWaitsADayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := fault.Retry(t.Context(), slog.New(slog.DiscardHandler), "write", func(context.Context) error {
			if time.Since(start) < 24*time.Hour {
				return errDown
			}
			return nil
		})
		require.NoError(t, err)
		require.Less(t, time.Since(start), 24*time.Hour+8*time.Second, "pauses do not grow on")
	})
}

func TestRetryIsSilentWhenAllIsWell(t *testing.T) {
	var out bytes.Buffer
	err := fault.Retry(t.Context(), slog.New(slog.NewTextHandler(&out, nil)), "x", func(context.Context) error { return nil })
	require.NoError(t, err)
	require.Empty(t, out.String())
}

func TestRetryEndsAtAPermanentError(t *testing.T) {
	calls := 0
	err := fault.Retry(t.Context(), slog.New(slog.DiscardHandler), "write", func(context.Context) error {
		calls++
		if calls < 2 {
			return errDown
		}
		return fault.Permanent(io.ErrShortWrite)
	})
	require.EqualError(t, err, "write: short write")
	require.ErrorIs(t, err, io.ErrShortWrite)
	require.Equal(t, 2, calls)
	err = fault.Retry(t.Context(), slog.New(slog.DiscardHandler), "write", func(context.Context) error {
		return fmt.Errorf("load generation 2: %w", fault.Permanent(io.ErrShortWrite))
	})
	require.EqualError(t, err, "write: load generation 2: short write", "what is said around it stays")
	require.NoError(t, fault.Permanent(nil))
}

func TestRetryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := fault.Retry(ctx, slog.New(slog.DiscardHandler), "write", func(context.Context) error { return errDown })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errDown)
		require.Equal(t, 3*time.Second, time.Since(start), "not a pause longer")
	})
}

func TestRetryGivesFnItsContextAndDoesNotLogItsEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	err := fault.Retry(ctx, slog.New(slog.NewTextHandler(&out, nil)), "wait", func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	require.EqualError(t, err, "wait: context canceled")
	require.Empty(t, out.String())
}
