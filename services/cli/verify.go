package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/pkg/readmodel/verify"
	"github.com/lotline/lotline/services/projector"
	"github.com/lotline/lotline/topics"
)

// verifyCmd has the flags of the services whose stores it compares.
type verifyCmd struct {
	postgresclient.Settings `embed:"" group:"Postgres:"`
	stores.Config           `embed:"" group:"Read model:"`
	Wait                    time.Duration `env:"-" default:"30s" help:"How long a store that is behind may take to catch up."`
	SKUsMax                 int           `env:"-" name:"skus-max" default:"100" placeholder:"N" help:"Of how many SKUs that are wrong the rows are compared and listed."`
	JSON                    bool          `env:"-" help:"Print one JSON object instead of text."`
	Repair                  bool          `env:"-" help:"Project the listed SKUs that are wrong in ClickHouse again, and those with notes of refused events, from the events, and compare once more; not those of which the events or Postgres are wrong too. For a moment they are missing there."`
}

// Validate names the faults of the read model's settings; kong asks Settings by itself.
func (c *verifyCmd) Validate() error {
	err := c.CheckKept()
	if c.Repair && c.ReadModel != stores.ClickHouse {
		err = errors.Join(err, fmt.Errorf("--repair takes the log of events, which only ClickHouse keeps: what is wrong in another store lotline rebuild --read-model=%s --from=state puts right", c.ReadModel))
	}
	if c.SKUsMax < 0 {
		err = errors.Join(err, fmt.Errorf("--skus-max is %d and must be 0 or more", c.SKUsMax))
	}
	if c.Wait < 0 {
		err = errors.Join(err, fmt.Errorf("--wait is %s and must not be negative", c.Wait))
	}
	return err
}

// Help is shown below the flags' own.
func (verifyCmd) Help() string {
	return `Compares what Postgres has and what ClickHouse has with what the events come to: SKUs, batches and order lines,
and in ClickHouse the log of events, the batches by reference, the outcomes of commands, and the eta, command and time of each
order line. It may run beside everything else, reads the whole events topic, and
changes nothing unless told to --repair.

Where the topic's retention has deleted events, those in ClickHouse's own log are believed instead: a hole or a doubled
version in it is found, and so is whatever makes it come to another state than Postgres has. Outcomes that old are not compared.

With --read-model=postgres or redis it is Postgres that is compared with the events, and the read model with Postgres: all that
both have, so neither outcomes nor times. The topic must have all events then. What is wrong there lotline rebuild puts right.

Exit codes: 0 all agree; 1 something is wrong, or was still behind when --wait was over; 2 it could not compare.`
}

// compared is what is found out about a read model that has no log of its own.
type compared struct {
	*verify.Report
	ReadModel *projector.RebuildReport `json:"read_model"`
}

// runByRows holds Postgres against the events, and the read model against Postgres.
func (c *verifyCmd) runByRows(e *env) error {
	report, err := c.compare(e)
	if err != nil {
		return exit{exitUsage, err}
	}
	rows, err := projector.Compare(e.ctx, c.Config, c.Settings, c.Wait, c.SKUsMax)
	if err != nil {
		return exit{exitUsage, err}
	}
	if c.JSON {
		if err := json.NewEncoder(e.stdout).Encode(compared{report, rows}); err != nil {
			return exit{exitUsage, err}
		}
	} else {
		report.Print(e.stdout)
		rows.PrintCompared(e.stdout)
	}
	if !report.OK() || !rows.OK() {
		return exit{exitFailed, nil}
	}
	return nil
}

// Run compares, repairs if asked to, and says what it found.
func (c *verifyCmd) Run(e *env) error {
	if c.ReadModel != stores.ClickHouse {
		return c.runByRows(e)
	}
	report, err := c.compare(e)
	if err != nil {
		return exit{exitUsage, err}
	}
	if c.Repair {
		if report, err = c.repair(e, report); err != nil {
			return err
		}
	}
	if err := c.print(e, report); err != nil {
		return err
	}
	if !report.OK() {
		return exit{exitFailed, nil}
	}
	return nil
}

// notedMax bounds the SKUs with notes that are projected again at a time: what is wrong comes first, and does not wait for their events.
const notedMax = 100

// repair projects again what is wrong in ClickHouse, and then what has notes of refused events: those may have come since, which nobody
// else says. It returns what is found then.
func (c *verifyCmd) repair(e *env, report *verify.Report) (*verify.Report, error) {
	in := clickhouseclient.Config(c.ClickHouse)
	noted, err := projector.Refused(e.ctx, in)
	if err != nil {
		return nil, exit{exitUsage, err}
	}
	wrong, why := report.Repairable()
	if why != "" {
		fmt.Fprintln(e.stderr, why)
	}
	noted, _ = report.RepairableOf(slices.DeleteFunc(noted, func(sku string) bool { return slices.Contains(wrong, sku) }))
	if len(wrong)+len(noted) == 0 {
		return report, nil
	}
	if err := c.print(e, report); err != nil {
		return nil, err
	}
	for _, skus := range slices.Concat([][]string{wrong}, slices.Collect(slices.Chunk(noted, notedMax))) {
		if len(skus) == 0 {
			continue
		}
		events, err := projector.Reproject(e.ctx, e.kafka, in, skus)
		if err != nil {
			return nil, exit{exitUsage, err}
		}
		fmt.Fprintf(e.stderr, "projected %d SKUs again, %d events\n", len(skus), events)
	}
	if report, err = c.compare(e); err != nil {
		return nil, exit{exitUsage, err}
	}
	return report, nil
}

func (c *verifyCmd) print(e *env, report *verify.Report) error {
	if !c.JSON {
		report.Print(e.stdout)
		return nil
	}
	return json.NewEncoder(e.stdout).Encode(report)
}

func (c *verifyCmd) compare(e *env) (report *verify.Report, err error) {
	client, err := e.connect()
	if err != nil {
		return nil, err
	}
	client.Close()
	var clickHouse driver.Conn
	if c.ReadModel == stores.ClickHouse {
		if clickHouse, err = e.openClickHouse(clickhouseclient.Config(c.ClickHouse)); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, clickHouse.Close()) }()
	}
	url, err := c.ConnURL()
	if err != nil {
		return nil, err
	}
	postgres, err := pgx.Connect(e.ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres at %s: %w", postgresclient.Redacted(url), err)
	}
	defer func() { err = errors.Join(err, postgres.Close(e.ctx)) }()
	declared := topics.Declared(e.kafka.TopicPrefix)
	return verify.Run(e.ctx, verify.Options{
		Kafka: e.kafka, EventsTopic: declared.Events.Name, Group: declared.ProjectorGroup,
		Postgres: postgres, ClickHouse: clickHouse, Wait: c.Wait, SKUsMax: c.SKUsMax,
	})
}

// openClickHouse finds out at once whether it answers.
func (e *env) openClickHouse(cfg clickhouseclient.Config) (driver.Conn, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	opts, err := cfg.Options()
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("set up the ClickHouse client: %w", err)
	}
	err = conn.Ping(e.ctx)
	if err == nil {
		return conn, nil
	}
	err = errors.Join(err, conn.Close())
	at := strings.Join(cfg.Addrs, ",")
	if errors.As(err, new(*clickhouse.Exception)) {
		return nil, fmt.Errorf("reach ClickHouse at %s as %s: %w", at, cfg.User, err)
	}
	return nil, fmt.Errorf("no ClickHouse answers at %s (%w): say with --clickhouse-addrs where it is; it has another port for HTTP than for its own protocol", at, err)
}
