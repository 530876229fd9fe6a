package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/topics"

	"github.com/lotline/lotline/services/projector/internal/rebuild"
)

// RebuildConfig is what an operator says about a rebuild of the read model.
type RebuildConfig struct {
	Kafka     kafkaclient.Config
	ReadModel stores.Config
	Postgres  postgresclient.Settings
	// From is what the next generation is filled from: state or events.
	From string
	// Workers is how many parts of Postgres' tables are read and loaded at once, 1 to 32.
	Workers int
	// RowsPerSecondMax bounds how many rows, or events, are loaded in a second; 0: as many as can be.
	RowsPerSecondMax int
	// Wait is how long the next generation is given to catch up before it is judged.
	Wait time.Duration
	// SKUsMax bounds the SKUs that differ and whose rows are listed.
	SKUsMax int
	// Progress, unless nil, is told how far the filling is and what comes after it, never from two goroutines at once.
	Progress func(RebuildProgress)
}

// RebuildProgress is how far a rebuild has filled its generation, or what it does after that.
type RebuildProgress = rebuild.Progress

// RebuildReport is what a rebuild made, and how that compares.
type RebuildReport = rebuild.Report

// Validate names every fault of the configuration, a sentence each.
func (c RebuildConfig) Validate() error {
	errs := []error{c.Kafka.Validate(), c.ReadModel.CheckKept(), c.Postgres.Validate()}
	if c.From != rebuild.FromState && c.From != rebuild.FromEvents {
		errs = append(errs, fmt.Errorf("--from is %q and must be %s or %s", c.From, rebuild.FromState, rebuild.FromEvents))
	}
	if c.Workers < 1 || c.Workers > 32 {
		errs = append(errs, fmt.Errorf("--workers is %d and must be from 1 to 32", c.Workers))
	}
	if c.RowsPerSecondMax < 0 {
		errs = append(errs, fmt.Errorf("--rows-per-second-max is %d and must be 0, for no bound, or more", c.RowsPerSecondMax))
	}
	if c.Wait < 0 || c.SKUsMax < 0 {
		errs = append(errs, errors.New("--wait and --skus-max must not be negative"))
	}
	return errors.Join(errs...)
}

// Rebuild makes the next generation of the read model beside the one that is asked, or goes on with one that was broken
// off, compares both with the write side, and switches readers to the new one unless something about it is unexplained.
// Projectors, readers and allocators may run meanwhile; two rebuilds must not. The error says that it could not.
func Rebuild(ctx context.Context, c RebuildConfig) (report *RebuildReport, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	url, err := c.Postgres.ConnURL()
	if err != nil {
		return nil, err
	}
	generations, err := c.ReadModel.NewGenerations()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, generations.Close()) }()
	writer, err := c.ReadModel.NewWriter()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	if err := writer.Check(ctx); err != nil {
		return nil, err
	}
	declared := topics.Declared(c.Kafka.TopicPrefix)
	return rebuild.Run(ctx, rebuild.Options{
		Store: generations, Writer: writer, PostgresURL: url, Kafka: c.Kafka.Opts("lotline-projector"),
		EventsTopic: declared.Events.Name, CommandsTopic: declared.Commands.Name,
		From: c.From, Workers: c.Workers, RowsPerSecondMax: c.RowsPerSecondMax, Wait: c.Wait, SKUsMax: c.SKUsMax,
		Progress: c.Progress,
	}, slog.Default())
}

// Compare holds the read model against the write side, row by row, and changes nothing; rows that Postgres has not are
// compared as far as its rows go: neither the outcomes of commands nor times. The services may run meanwhile. The error says
// that it could not.
func Compare(ctx context.Context, readModel stores.Config, from postgresclient.Settings, wait time.Duration, skusMax int) (report *RebuildReport, err error) {
	if err := errors.Join(readModel.CheckKept(), from.Validate()); err != nil {
		return nil, err
	}
	url, err := from.ConnURL()
	if err != nil {
		return nil, err
	}
	generations, err := readModel.NewGenerations()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, generations.Close()) }()
	return rebuild.Compare(ctx, rebuild.Options{Store: generations, PostgresURL: url, Wait: wait, SKUsMax: skusMax})
}

// RollBack switches readers back to the generation that is still kept beside the live one, and returns its number.
func RollBack(ctx context.Context, c stores.Config) (int, error) {
	return onGenerations(ctx, c, func(ctx context.Context, generations readmodel.Generations) (_ int, err error) {
		writer, err := c.NewWriter()
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, writer.Close()) }()
		return rebuild.Back(ctx, generations, writer)
	})
}

// DropGeneration ends the generation beside the live one, and returns its number.
func DropGeneration(ctx context.Context, c stores.Config) (int, error) {
	return onGenerations(ctx, c, rebuild.Drop)
}

func onGenerations(ctx context.Context, c stores.Config, do func(context.Context, readmodel.Generations) (int, error)) (generation int, err error) {
	generations, err := c.NewGenerations()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, generations.Close()) }()
	return do(ctx, generations)
}
