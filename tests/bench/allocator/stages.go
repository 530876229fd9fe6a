package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/pprof/profile"

	"github.com/lotline/lotline/tests/bench/trial"
)

const (
	stageCPU   = "an allocator's CPU by stage, us a command"
	stageAlloc = "allocated by an allocator, a command"
)

const (
	restOfGo          = "Go: garbage collection, scheduling"
	rest              = "else"
	lotlineMod        = "github.com/lotline/lotline/"
	allocatorPackages = lotlineMod + "services/allocator/internal/"
)

// stages are what an allocator does, each with what the names of its functions contain. Of a stack the first function that
// any of them knows counts, from the one that ran outwards: what a stage calls is the stage's.
var stages = []struct {
	name      string
	functions []string
}{
	{"decode commands", []string{allocatorPackages + "commandlog.Decode", lotlineMod + "schemas.DecodeCommand", lotlineMod + "pkg/cloudevents.Read"}},
	{"encode events", []string{allocatorPackages + "commandlog.Encoder", allocatorPackages + "commandlog.EventRecords", allocatorPackages + "outbox.", lotlineMod + "schemas.Encoding.AppendEvent"}},
	{"decide", []string{allocatorPackages + "allocation."}},
	{"store: SQL and its client", []string{allocatorPackages + "postgres.", "github.com/jackc/pgx/"}},
	{"Kafka's client", []string{"github.com/twmb/franz-go/"}},
	{"apply: by SKU, the cache", []string{allocatorPackages + "apply."}},
	{"the loop", []string{allocatorPackages + "commandlog."}},
}

// byStage adds a profile's values up, by the stage in which they arose.
func byStage(p *profile.Profile, value int) map[string]int64 {
	sums := make(map[string]int64)
	for _, s := range p.Sample {
		sums[stageOf(s)] += s.Value[value]
	}
	return sums
}

func stageOf(s *profile.Sample) string {
	onlyGo := true
	for _, location := range s.Location {
		for _, line := range location.Line { // inlined ones first
			for _, stage := range stages {
				for _, name := range stage.functions {
					if strings.HasPrefix(line.Function.Name, name) {
						return stage.name
					}
				}
			}
			onlyGo = onlyGo && strings.HasPrefix(line.Function.Name, "runtime.")
		}
	}
	if onlyGo {
		return restOfGo
	}
	return rest
}

// stages measures the first row once more, with profiles, which cost some of the rate: where an allocator's time goes, and
// what it allocates. What is allocated in all is counted by Go's runtime, and by stage it is sampled.
func (b *bench) stages(ctx context.Context) (err error) {
	w := trial.Base(b.SKUs).New(b.Commands, 1)
	site, err := b.ground.NewSite(ctx, w.Partitions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	a, err := site.StartAllocators(ctx, 1, b.Sessions, b.allocatorArgs()...)
	if err == nil {
		err = b.profileStages(ctx, site, w, a)
	}
	if err = errors.Join(err, a.Stop()); err != nil {
		return err
	}
	return site.Check(ctx, w)
}

func (b *bench) profileStages(ctx context.Context, site *trial.Site, w *trial.Work, a *trial.Allocators) error {
	driver, err := site.Drive()
	if err != nil {
		return err
	}
	defer driver.Close()
	if err := b.setUp(ctx, driver, w, a); err != nil {
		return err
	}
	show, err := driver.Send(ctx, w, w.Commands)
	if err != nil {
		return err
	}
	before, err := a.Allocated(ctx)
	if err != nil {
		return err
	}
	var cpu []byte
	profiled := make(chan error, 1)
	go func() {
		var err error
		cpu, err = a.CPUProfile(ctx, b.Stages)
		profiled <- err
	}()
	if _, err := show(); err != nil {
		return err
	}
	_, err = driver.Await(ctx, len(w.Commands))
	after, failed := a.Allocated(ctx)
	if err := errors.Join(err, failed, <-profiled); err != nil {
		return err
	}
	return b.addStages(cpu, before, after, float64(len(w.Commands)))
}

func (b *bench) addStages(cpu []byte, before, after trial.Allocated, commands float64) error {
	parsed := make([]*profile.Profile, 3)
	for i, raw := range [][]byte{cpu, before.Profile, after.Profile} {
		var err error
		if parsed[i], err = profile.Parse(bytes.NewReader(raw)); err != nil {
			return fmt.Errorf("read an allocator's profile: %w", err)
		}
	}
	const cpuNanoseconds, allocObjects, allocSpace = 1, 0, 1 // the order in which Go writes values
	times, then, now := byStage(parsed[0], cpuNanoseconds), parsed[1], parsed[2]
	objectsThen, bytesThen := byStage(then, allocObjects), byStage(then, allocSpace)
	objects, allocated := byStage(now, allocObjects), byStage(now, allocSpace)
	all := 0.0
	add := func(name string) {
		all += float64(times[name])
		b.report.Add(stageCPU, name, "CPU", "us", float64(times[name])/1000/commands)
		b.report.Add(stageAlloc, name, "allocated", "bytes", float64(allocated[name]-bytesThen[name])/commands)
		b.report.Add(stageAlloc, name, "in", "objects", float64(objects[name]-objectsThen[name])/commands)
	}
	for _, s := range stages {
		add(s.name)
	}
	add(restOfGo)
	add(rest)
	b.report.Add(stageCPU, "in all", "CPU", "us", all/1000/commands)
	b.report.Add(stageAlloc, "in all", "allocated", "bytes", (after.Bytes-before.Bytes)/commands)
	b.report.Add(stageAlloc, "in all", "in", "objects", (after.Objects-before.Objects)/commands)
	return nil
}
