// The crash command breaks the pipeline on real servers, in processes of its own, and verifies what is left.
//
//	go run ./tests/cmd/crash drill                         # all drills, on servers that it starts itself
//	go run ./tests/cmd/crash drill kafka-killed --outage=10s
//	go run ./tests/cmd/servers --postgres --clickhouse --kafka -- go run ./tests/cmd/crash kills --rounds=10
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/crash"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/workload"
)

type killsCmd struct {
	Commands int    `help:"Lines of the workload." default:"100000"`
	SKUs     int    `help:"SKUs that they are about." default:"200" name:"skus"`
	Seed     uint64 `help:"Of the workload and of the moments of the kills." default:"1"`
	Rounds   int    `help:"How often an allocator and the projector are killed." default:"10"`
}

type drillCmd struct {
	Names    []string      `arg:"" optional:"" help:"Drills to do; all of them if none is named."`
	List     bool          `help:"List the drills and what each shows."`
	Outage   time.Duration `help:"How long a server is away." default:"60s"`
	Commands int           `help:"Commands sent before, during and after the faults of each drill." default:"6000"`
	Flood    int           `help:"Unreadable records of poison-flood." default:"50000"`
	Mixed    int           `help:"Commands of each of the three parts of mixed-producers." default:"200000"`
	Seed     uint64        `help:"Of the workload." default:"1"`
}

func main() {
	servers.Init()
	var cli struct {
		Root  string   `help:"The project's root." default:"."`
		Kills killsCmd `cmd:"" help:"Run one workload twice, without and with kills, and compare the end states."`
		Drill drillCmd `cmd:"" help:"Inject faults of one kind after another, and report those that took effect."`
	}
	command := kong.Parse(&cli, kong.Description("Breaks the pipeline under load and verifies what is left."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if command.Command() == "kills" {
		mix := workload.Mix{Seed: cli.Kills.Seed, Commands: cli.Kills.Commands, SKUs: cli.Kills.SKUs}
		err = run(ctx, mix, cli.Kills.Rounds, cli.Root)
	} else {
		err = cli.Drill.run(ctx, cli.Root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		stop()
		os.Exit(1)
	}
}

func (c *drillCmd) run(ctx context.Context, root string) (err error) {
	var drills []crash.Drill
	for _, d := range crash.Drills {
		if len(c.Names) == 0 || slices.Contains(c.Names, d.Name) {
			drills = append(drills, d)
		}
	}
	if c.List {
		for _, d := range crash.Drills {
			fmt.Printf("%-24s%s\n", d.Name, d.Shows)
		}
		return nil
	}
	if len(drills) < len(c.Names) || len(drills) == 0 {
		return fmt.Errorf("not all of %q are drills: see --list", c.Names)
	}
	bin, err := crash.Build(ctx, root)
	defer os.RemoveAll(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lotline-drill")
	if err != nil {
		return fmt.Errorf("make a folder for the servers: %w", err)
	}
	defer os.RemoveAll(dir)
	hosts, err := crash.StartHosts(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hosts.Close()) }()
	options := crash.DrillOptions{Outage: c.Outage, Commands: c.Commands, Flood: c.Flood, Mixed: c.Mixed, Seed: c.Seed}
	var results []crash.DrillResult
	failed := 0
	for _, d := range drills {
		fmt.Printf("%s: %s\n", d.Name, d.Shows)
		result := d.Run(ctx, hosts, bin, options, os.Stdout)
		if result.Err != nil {
			failed++
			fmt.Println("  FAILED:", result.Err)
		}
		results = append(results, result)
	}
	if err := crash.PrintDrills(os.Stdout, results); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d drills failed", failed, len(results))
	}
	return nil
}

func run(ctx context.Context, mix workload.Mix, rounds int, root string) error {
	servers, err := crash.FromEnvironment()
	if err != nil {
		return err
	}
	bin, err := crash.Build(ctx, root)
	defer os.RemoveAll(bin)
	if err != nil {
		return err
	}
	calm, err := crash.Scenario{Mix: mix}.Run(ctx, servers, bin, os.Stdout)
	if err != nil {
		return err
	}
	if err := calm.Report.Print(os.Stdout); err != nil {
		return err
	}
	fmt.Printf("%10.0f  commands/s from the first one sent to the last event (sent within %s)\n", calm.Rate, calm.SendDuration.Round(time.Millisecond))
	if err := calm.Report.Err(); err != nil || rounds == 0 {
		return err
	}
	killed, err := crash.Scenario{Mix: mix, Rounds: rounds}.Run(ctx, servers, bin, os.Stdout)
	if err != nil {
		return err
	}
	if err := killed.Report.Print(os.Stdout); err != nil {
		return err
	}
	fmt.Printf("%10d  kills; the slowest takeover ended %s after the kill\n", killed.Kills, killed.TakeoverMax.Round(time.Millisecond))
	if err := killed.Report.Err(); err != nil {
		return err
	}
	if calm.Report.Digest != killed.Report.Digest {
		return fmt.Errorf("the end state with kills (%s) is not the one without (%s)", killed.Report.Digest, calm.Report.Digest)
	}
	fmt.Println("      same  end state with and without kills")
	return nil
}
