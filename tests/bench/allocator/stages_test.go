package main

import (
	"testing"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

func TestWhatRanCountsForTheInnermostStage(t *testing.T) {
	for want, stack := range map[string][]string{ // the one that ran first
		"decide":                    {"runtime.mallocgc", allocatorPackages + "allocation.(*Product).Decide", allocatorPackages + "apply.(*Applier).Apply", allocatorPackages + "commandlog.(*session).step"},
		"store: SQL and its client": {"syscall.Syscall", "net.(*conn).Write", "github.com/jackc/pgx/v5/pgconn.(*PgConn).flush", allocatorPackages + "postgres.(*Store).Commit", allocatorPackages + "apply.(*Applier).Apply"},
		"apply: by SKU, the cache":  {"runtime.mapassign", allocatorPackages + "apply.(*Applier).Apply", allocatorPackages + "commandlog.(*session).step"},
		"decode commands":           {lotlineMod + "schemas.(*reader).text", lotlineMod + "schemas.DecodeCommand", allocatorPackages + "commandlog.Decode", allocatorPackages + "commandlog.(*session).decode"},
		"encode events":             {lotlineMod + "schemas.appendText", allocatorPackages + "commandlog.Encoder.func1", allocatorPackages + "apply.(*Applier).Apply"},
		"Kafka's client":            {"runtime.makeslice", "github.com/twmb/franz-go/pkg/kgo.(*source).fetch"},
		"the loop":                  {allocatorPackages + "commandlog.(*session).step"},
		restOfGo:                    {"runtime.gcBgMarkWorker"},
		rest:                        {"runtime.mallocgc", "net/http.(*conn).serve"},
	} {
		s := &profile.Sample{}
		for _, name := range stack {
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: name}}}})
		}
		require.Equal(t, want, stageOf(s))
	}
}
