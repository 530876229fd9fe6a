// The crash command runs one workload twice on real servers, without and with kills, and compares the end states.
//
//	go run ./tests/cmd/servers --postgres --clickhouse --kafka -- go run ./tests/cmd/crash --rounds=10
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lotline/lotline/tests/crash"
	"github.com/lotline/lotline/tests/workload"
)

func main() {
	var cli struct {
		Commands int    `help:"Lines of the workload." default:"100000"`
		SKUs     int    `help:"SKUs that they are about." default:"200" name:"skus"`
		Seed     uint64 `help:"Of the workload and of the moments of the kills." default:"1"`
		Rounds   int    `help:"How often an allocator and the projector are killed." default:"10"`
		Root     string `help:"The project's root." default:"."`
	}
	kong.Parse(&cli, kong.Description("Kills the pipeline's processes under load and verifies what is left."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	mix := workload.Mix{Seed: cli.Seed, Commands: cli.Commands, SKUs: cli.SKUs}
	if err := run(ctx, mix, cli.Rounds, cli.Root); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		stop()
		os.Exit(1)
	}
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
