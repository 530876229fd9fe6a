// Package audit holds the read model against Postgres while the projector runs, at a low rate, and says what differs.
//
// What it compares, and how it tells what is wrong from what is behind, is pkg/readmodel/verify. This package calls that
// again and again, counts and logs. It may import pkg and the clients of Postgres, ClickHouse and Kafka; the service root
// runs it if it is told where Postgres is.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/postgresclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/pkg/readmodel/verify"
)

const (
	// stepTimeout bounds a step, in which two stores are asked and the projector is waited for.
	stepTimeout = 90 * time.Second
	closeWithin = 5 * time.Second
	// questionTimeout bounds one question to a read model that is asked by a Reader.
	questionTimeout = 10 * time.Second
	// logInterval is how often a step that fails is logged, if every step does.
	logInterval = time.Minute
	// namedMax bounds the rows that a step names in the log.
	namedMax = 100
)

// Config says what to audit, and how fast.
type Config struct {
	Topic, Group string // the events, and who projects them
	Interval     time.Duration
	RowsMax      int
	Postgres     postgresclient.Settings
	ReadModel    stores.Config
	// Mine reports whether this process is the one that audits; several would find the same, at several times the cost.
	Mine func() bool
}

// Metrics are what the audit counts. METRICS.md lists the names.
type Metrics struct {
	skus, lines, unsettled, failures prometheus.Counter
	drifting, lastPass               prometheus.Gauge
}

// NewMetrics registers the audit's metrics. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	rows := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lotline_projector_audit_rows_total", Help: "SKUs, and order lines, of the read model that were held against Postgres.",
	}, []string{"of"})
	m := &Metrics{
		skus: rows.WithLabelValues("skus"), lines: rows.WithLabelValues("lines"),
		unsettled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lotline_projector_audit_unsettled_total", Help: "SKUs and order lines that differed, and of which the audit could not tell whether they are wrong.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lotline_projector_audit_failures_total", Help: "Steps of the audit that could not be taken, and are taken again.",
		}),
		drifting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lotline_projector_audit_drifting_skus", Help: "SKUs that the read model has otherwise than Postgres, as far as the audit of this process knows.",
		}),
		lastPass: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lotline_projector_audit_last_pass_timestamp_seconds", Help: "Unix time when this process had last audited every row; 0 if it has not.",
		}),
	}
	reg.MustRegister(rows, m.unsettled, m.failures, m.drifting, m.lastPass)
	return m
}

// auditor is the audit of one process.
type auditor struct {
	cfg     Config
	log     *slog.Logger
	metrics *Metrics
	admin   *kadm.Client
	store   verify.AuditedStore
	verify  *verify.Auditor // nil while another process audits
	failed  time.Time       // when a failure was logged
}

// Run audits until ctx ends, and then returns nil. It waits for servers that are away.
func Run(ctx context.Context, cfg Config, kafka []kgo.Opt, metrics *Metrics, log *slog.Logger) (err error) {
	client, err := kgo.NewClient(kafka...)
	if err != nil {
		return fmt.Errorf("set up the Kafka client of the audit: %w", err)
	}
	defer client.Close()
	store, end, err := open(cfg.ReadModel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	a := &auditor{cfg: cfg, log: log, metrics: metrics, admin: kadm.NewClient(client), store: store}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(cfg.Interval):
		}
		a.step(ctx)
	}
}

// open connects to the read model when it is first asked: to ClickHouse by its tables' indexes, to others as readers do.
func open(c stores.Config) (store verify.AuditedStore, end func() error, err error) {
	if c.ReadModel != stores.ClickHouse {
		reader, err := stores.ReaderConfig{Config: c}.NewReader(questionTimeout)
		if err != nil {
			return nil, nil, err
		}
		return verify.AuditedReader(reader), reader.Close, nil
	}
	opts, err := clickhouseclient.Config(c.ClickHouse).Options()
	if err != nil {
		return nil, nil, err
	}
	opts.MaxOpenConns, opts.MaxIdleConns = 1, 1
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, nil, fmt.Errorf("set up the ClickHouse client of the audit: %w", err)
	}
	return verify.AuditedClickHouse(conn), conn.Close, nil
}

func (a *auditor) step(ctx context.Context) {
	if !a.cfg.Mine() {
		a.verify = nil
		a.metrics.drifting.Set(0)
		return
	}
	if a.verify == nil {
		a.verify = &verify.Auditor{Offsets: a.offsets, RowsMax: a.cfg.RowsMax}
	}
	done, err := a.take(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		a.metrics.failures.Inc()
		if time.Since(a.failed) >= logInterval {
			a.failed = time.Now()
			a.log.WarnContext(ctx, "could not audit the read model, trying again", "error", err)
		}
		return
	}
	a.metrics.skus.Add(float64(done.SKUs))
	a.metrics.lines.Add(float64(done.Lines))
	a.metrics.unsettled.Add(float64(done.Unsettled))
	a.metrics.drifting.Set(float64(done.Drifting))
	if done.PassEnded {
		a.metrics.lastPass.SetToCurrentTime()
	}
	for i, f := range done.Found {
		if i == namedMax {
			a.log.ErrorContext(ctx, "the read model differs from Postgres in more rows", "rows", len(done.Found)-namedMax)
			break
		}
		a.log.ErrorContext(ctx, "the read model differs from Postgres", "sku", f.SKU, "row", f.Row, "is", orMissing(f.Is), "postgres", orMissing(f.Should),
			"todo", "lotline verify says who is right; lotline verify --repair projects the SKU again into ClickHouse, lotline rebuild puts any read model right")
	}
	for _, sku := range done.Mended {
		a.log.InfoContext(ctx, "the read model agrees with Postgres again", "sku", sku)
	}
}

func orMissing(says string) string {
	if says == "" {
		return "missing"
	}
	return says
}

// take takes one step. Its connection to Postgres is a new one: between steps none is held, and the files of the
// password are read again.
func (a *auditor) take(ctx context.Context) (done *verify.Audited, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	url, err := a.cfg.Postgres.ConnURL()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres at %s: %w", postgresclient.Redacted(url), err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		err = errors.Join(err, conn.Close(closing))
	}()
	return a.verify.Step(ctx, conn, a.store)
}

// offsets returns where the events end, and up to where they are projected: of a partition that the group has committed nothing of, up
// to where it begins. If all of it had expired before the group came, nothing will ever be committed.
func (a *auditor) offsets(ctx context.Context) (ends, projected map[int32]int64, err error) {
	listed, err := a.admin.ListEndOffsets(ctx, a.cfg.Topic)
	if err = errors.Join(err, listed.Error()); err != nil {
		return nil, nil, fmt.Errorf("list the end offsets of %s: %w", a.cfg.Topic, err)
	}
	starts, err := a.admin.ListStartOffsets(ctx, a.cfg.Topic)
	if err = errors.Join(err, starts.Error()); err != nil {
		return nil, nil, fmt.Errorf("list the start offsets of %s: %w", a.cfg.Topic, err)
	}
	committed, err := a.admin.FetchOffsets(ctx, a.cfg.Group)
	if err = errors.Join(err, committed.Error()); err != nil {
		return nil, nil, fmt.Errorf("fetch the offsets of group %s: %w", a.cfg.Group, err)
	}
	ends, projected = make(map[int32]int64), make(map[int32]int64)
	listed.Each(func(end kadm.ListedOffset) { ends[end.Partition] = end.Offset })
	starts.Each(func(start kadm.ListedOffset) { projected[start.Partition] = start.Offset })
	committed.Each(func(at kadm.OffsetResponse) {
		if at.Topic == a.cfg.Topic {
			projected[at.Partition] = at.At
		}
	})
	return ends, projected, nil
}
