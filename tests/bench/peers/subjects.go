package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/tests/bench/trial"
	"github.com/lotline/lotline/tests/internal/cache"
)

// lotline is the subject that others are compared with.
const lotline = "Lotline"

// subject is somebody who does the work.
type subject struct {
	name     string
	slow     bool // a transaction a command
	stocked  bool // it finds its SKUs and batches in Postgres; others are sent them as commands
	postgres bool // it keeps its state in the allocator's tables
	warmUp   int  // commands that do not count
	build    func(context.Context, *trial.Ground) error
	start    func(context.Context, *trial.Site) (running, error)
}

// running is a subject's process, or processes.
type running interface {
	Stop() error // as an operator would
	Kill() error // as kill -9 does
}

func subjects(f flags) []*subject {
	return []*subject{
		{name: lotline, postgres: true, warmUp: f.Commands / 5, start: func(ctx context.Context, s *trial.Site) (running, error) {
			return s.StartAllocators(ctx, 1, allocator.DefaultConfig().Sessions)
		}},
		{name: "by hand", slow: true, stocked: true, postgres: true, warmUp: f.Commands / 100, start: func(_ context.Context, s *trial.Site) (running, error) {
			return begin(s, "byhand")
		}},
		{name: "Watermill", slow: true, stocked: true, postgres: true, warmUp: f.Commands / 100, build: buildWatermill, start: func(_ context.Context, s *trial.Site) (running, error) {
			return begin(s, "watermill")
		}},
		{name: "Kafka Streams at 100 ms", warmUp: 2 * f.Commands, build: buildStreams, start: streams("100")},
		{name: "Kafka Streams at 20 ms", warmUp: 2 * f.Commands, build: buildStreams, start: streams("20")},
	}
}

// begin starts a program that is told where Kafka is.
func begin(s *trial.Site, program string) (running, error) {
	p, err := s.Start(program, "--kafka-brokers="+strings.Join(s.Kafka, ","), "--kafka-topic-prefix="+s.Config.TopicPrefix)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// buildWatermill builds the program of a module that is not in the workspace.
func buildWatermill(ctx context.Context, g *trial.Ground) error {
	dir, err := source(ctx)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", g.Dir+"/", ".")
	build.Dir, build.Env = filepath.Join(dir, "watermill"), append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// source is the folder of this package.
func source(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/lotline/lotline/tests/bench/peers").Output()
	if err != nil {
		return "", fmt.Errorf("find the sources of the peers: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// streamsPackages are the jars of Kafka Streams.
func streamsPackages(dir string) (cache.Folder, error) {
	pom, err := os.ReadFile(filepath.Join(dir, "streams", "pom.xml"))
	return cache.Folder{
		Name: "bench-streams",
		What: "Kafka Streams (80 MB from Maven Central)",
		Pins: []cache.Pin{{Name: "pom.xml", Text: pom}},
		Tools: []cache.Tool{
			{Command: "mvn", Needs: "Maven (Debian: maven)"},
			{Command: "javac", Needs: "a JDK, 17 or newer (Debian: default-jdk-headless)"},
		},
		Fill: func(ctx context.Context, dir string) error {
			return cache.Run(ctx, dir, "mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies",
				"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "libs"))
		},
	}, err
}

// classpath is what Kafka Streams' program needs, in a folder of classes that buildStreams fills.
func classpath(ctx context.Context, g *trial.Ground) (string, error) {
	dir, err := source(ctx)
	if err != nil {
		return "", err
	}
	packages, err := streamsPackages(dir)
	if err != nil {
		return "", err
	}
	if err := packages.CheckTools(); err != nil {
		return "", err
	}
	jars, err := packages.Dir(ctx)
	return filepath.Join(g.Dir, "classes") + ":" + filepath.Join(jars, "libs", "*"), err
}

func buildStreams(ctx context.Context, g *trial.Ground) error {
	path, err := classpath(ctx, g)
	if err != nil {
		return err
	}
	dir, err := source(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(g.Dir, "classes"), 0o755); err != nil { // a class path names only what is there
		return err
	}
	build := exec.CommandContext(ctx, "javac", "-Xlint:all", "-Werror", "--release", "17", "-cp", path, "-d", filepath.Join(g.Dir, "classes"), filepath.Join(dir, "streams", "Allocate.java"))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// streams starts Kafka Streams with a commit interval, in ms, and two threads, as the allocator decides over two connections.
func streams(interval string) func(context.Context, *trial.Site) (running, error) {
	return func(ctx context.Context, s *trial.Site) (running, error) {
		path, err := classpath(ctx, s.Ground)
		if err != nil {
			return nil, err
		}
		java, err := exec.LookPath("java")
		if err != nil {
			return nil, err
		}
		p, err := s.Start(java, "-Xms256m", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", path, "Allocate",
			strings.Join(s.Kafka, ","), s.Config.TopicPrefix, interval, "2", filepath.Join(s.Dir, "state"))
		if err != nil {
			return nil, err
		}
		return p, nil
	}
}
