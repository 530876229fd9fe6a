// Package crash runs the pipeline as processes on real servers, kills them with SIGKILL while commands arrive, and
// holds what is left against a run without kills: the same commands must end in the same state.
//
// The command cmd/crash and the integration tests call it. It may import verify, workload, topics and pkg, and runs the
// services' binaries, never their packages.
package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/lotline/lotline/tests/verify"
	"github.com/lotline/lotline/tests/workload"
)

// Servers are real ones that the scenario may make databases and topics in.
type Servers struct {
	Kafka, PostgresURL, ClickHouse string
}

// FromEnvironment finds the servers that `make test` starts.
func FromEnvironment() (Servers, error) {
	s := Servers{os.Getenv("LOTLINE_TEST_KAFKA"), os.Getenv("LOTLINE_TEST_POSTGRES"), os.Getenv("LOTLINE_TEST_CLICKHOUSE")}
	if s.Kafka == "" || s.PostgresURL == "" || s.ClickHouse == "" {
		return s, errors.New("LOTLINE_TEST_KAFKA, LOTLINE_TEST_POSTGRES and LOTLINE_TEST_CLICKHOUSE must name servers: run it under tests/cmd/servers")
	}
	return s, nil
}

// Scenario is a workload and how often to kill during it.
type Scenario struct {
	Mix    workload.Mix
	Rounds int // in each the allocator and the projector are killed once, at random moments; 0 = none
}

// Result is how a run ended.
type Result struct {
	Report       *verify.Report
	Kills        int
	TakeoverMax  time.Duration // from a kill of an allocator until every command sent before it was published
	SendDuration time.Duration
	Rate         float64 // commands/s from the first sent to the last event published, without kills only
}

// Run sends the workload, kills as the scenario says, and verifies. Progress goes to out.
func (s Scenario) Run(ctx context.Context, servers Servers, bin string, out io.Writer) (*Result, error) {
	p, err := newPipeline(ctx, servers, bin, out)
	if err != nil {
		return nil, err
	}
	defer p.close()
	lines, counts := workload.Lines(s.Mix)
	fmt.Fprintf(out, "%d lines: %d unreadable, %d of unknown SKUs, %d repeats; %d rounds of kills\n",
		counts.Lines, counts.Unreadable, counts.UnknownSKU, counts.Repeats, s.Rounds)
	for _, instance := range []string{"a", "b"} {
		if err := p.start(ctx, "allocator", instance); err != nil {
			return nil, err
		}
	}
	if err := p.start(ctx, "projector", "a"); err != nil {
		return nil, err
	}
	if err := p.warm(ctx); err != nil {
		return nil, err
	}
	result := &Result{}
	start := time.Now()
	if s.Rounds == 0 {
		if err := p.send(ctx, lines); err != nil {
			return nil, err
		}
		result.SendDuration = time.Since(start)
		if _, err := p.awaitPublished(ctx, start); err != nil {
			return nil, err
		}
		result.Rate = float64(len(lines)) / time.Since(start).Seconds()
	}
	rng := mathrand.New(mathrand.NewPCG(s.Mix.Seed, 2))
	for round := range s.Rounds {
		share := lines[len(lines)*round/s.Rounds : len(lines)*(round+1)/s.Rounds]
		took, err := p.round(ctx, share, rng)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round+1, err)
		}
		result.Kills += 2
		result.TakeoverMax = max(result.TakeoverMax, took)
		fmt.Fprintf(out, "round %d: killed an allocator and the projector; all published %s after the kill\n", round+1, took.Round(time.Millisecond))
	}
	settling, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	result.Report, err = verify.Run(settling, p.target)
	return result, errors.Join(err, p.killAll())
}

// round sends a share of the lines, kills one allocator of two and the projector at random moments meanwhile, measures
// until the surviving allocator has published everything, and starts the killed ones again.
func (p *pipeline) round(ctx context.Context, share []string, rng *mathrand.Rand) (time.Duration, error) {
	sent := make(chan error, 1)
	go func() { sent <- p.send(ctx, share) }()
	time.Sleep(time.Duration(rng.IntN(600)) * time.Millisecond)
	victim := []string{"a", "b"}[rng.IntN(2)]
	if err := p.kill("allocator " + victim); err != nil {
		return 0, err
	}
	killed := time.Now()
	time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
	if err := p.kill("projector a"); err != nil {
		return 0, err
	}
	if err := <-sent; err != nil {
		return 0, err
	}
	if err := p.start(ctx, "projector", "a"); err != nil {
		return 0, err
	}
	took, err := p.awaitPublished(ctx, killed)
	if err != nil {
		return 0, err
	}
	return took, p.start(ctx, "allocator", victim)
}

// Build makes the binaries that the scenarios run, in a temporary folder that the caller removes.
func Build(ctx context.Context, root string) (bin string, err error) {
	bin, err = os.MkdirTemp("", "lotline-bin")
	if err != nil {
		return "", fmt.Errorf("make a folder for binaries: %w", err)
	}
	for program, module := range map[string]string{"allocator": "allocator", "projector": "projector", "lotline": "cli"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/"+program)
		cmd.Dir = filepath.Join(root, "services", module)
		if output, err := cmd.CombinedOutput(); err != nil {
			return bin, fmt.Errorf("build %s: %w: %s", program, err, output)
		}
	}
	return bin, nil
}
