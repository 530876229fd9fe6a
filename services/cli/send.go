package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/schollz/progressbar/v3"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/term"

	"github.com/lotline/lotline/pkg/cloudevents"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/services/cli/internal/commandfile"
	"github.com/lotline/lotline/topics"
)

// flushTimeout is how long an interrupted send waits for what is under way.
const flushTimeout = 10 * time.Second

type sendCmd struct {
	File        string           `arg:"" optional:"" default:"-" help:"NDJSON or CSV; - is stdin."`
	Format      string           `env:"-" enum:"auto,ndjson,csv" default:"auto" help:"ndjson or csv; auto goes by the file's name (.csv)."`
	Type        string           `env:"-" placeholder:"NAME" help:"The type of lines that name none: CreateBatch, Allocate, Deallocate or ChangeBatchQuantity."`
	Source      string           `env:"-" default:"/lotline/cli" help:"The CloudEvents source; with the id it is what makes a command a repeat."`
	SkipBad     bool             `env:"-" xor:"bad" help:"Leave out lines that cannot be read, and go on."`
	SendBad     bool             `env:"-" xor:"bad" help:"Send lines that cannot be read as they are; they become dead letters. Lines that are too long, or not CSV under the header row, are left out."`
	FromLine    int              `env:"-" default:"1" help:"Start at this line, to go on after one that was bad."`
	ContentType schemas.Encoding `env:"-" default:"json" placeholder:"json|protobuf" help:"How the commands are written: json or protobuf. Both mean the same."`
	Mode        string           `env:"-" enum:"binary,structured" default:"binary" help:"Where their CloudEvents attributes go: into headers (binary), or with the command into one JSON document (structured)."`
	Trace       bool             `env:"-" help:"Have the services trace these commands, the first 128 of them, as one trace, and print its id. They need --otlp-endpoint for it, and so does this command for the trace's root, which is the send as a whole."`
	Telemetry   telemetry.Config `embed:"" group:"Traces:"`
	InFlightMax int              `env:"-" default:"10000" help:"Commands that wait for the broker's acknowledgement at most."`
	Timeout     time.Duration    `env:"-" default:"2m" help:"Give up when the broker does not acknowledge a command for this long."`
}

// Help is printed by kong under the description.
func (*sendCmd) Help() string {
	return `Each line of NDJSON is a command; id is optional and a UUID by default:

  {"type":"CreateBatch","ref":"b-1","sku":"SMALL-TABLE","qty":100,"eta":"2031-01-02"}
  {"type":"Allocate","id":"c-2","orderid":"o-1","sku":"SMALL-TABLE","qty":3}

CSV has a header row with the same names: type,id,ref,sku,qty,eta,orderid. With
--type the column or member type can be left out. A file of commands that have
ids can be sent twice: repeats change nothing, also in another content type or
mode.`
}

// Validate is called by kong.
func (c *sendCmd) Validate() error {
	var errs []error
	if c.InFlightMax < 1 || c.InFlightMax > 1_000_000 {
		errs = append(errs, errors.New("--in-flight-max must be 1 to 1000000"))
	}
	if c.Timeout < time.Second {
		errs = append(errs, errors.New("--timeout must be 1s or more"))
	}
	if c.FromLine < 1 {
		errs = append(errs, errors.New("--from-line must be 1 or more"))
	}
	if c.Type != "" && !slices.Contains(commandfile.TypeNames, c.Type) {
		errs = append(errs, fmt.Errorf("--type must be one of %s", strings.Join(commandfile.TypeNames, ", ")))
	}
	if _, err := cloudevents.Parse(cloudevents.Headers(cloudevents.Envelope{Type: "-", Source: c.Source})); err != nil {
		errs = append(errs, fmt.Errorf("--source cannot be used: %w", err))
	}
	if c.Trace {
		errs = append(errs, c.Telemetry.Validate())
	}
	return errors.Join(errs...)
}

// Run sends the file, and says on stdout what became of it.
func (c *sendCmd) Run(e *env) error {
	in, size, err := c.open(e.stdin)
	if err != nil {
		return err
	}
	defer in.Close()
	client, err := e.connect(kgo.MaxBufferedRecords(c.InFlightMax), kgo.RecordDeliveryTimeout(c.Timeout))
	if err != nil {
		return err
	}
	defer client.Close()

	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(e.stderr), progressbar.OptionSetVisibility(isTerminal(e.stderr)),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetDescription("sending"))
	defer bar.Close()
	reader := progressbar.NewReader(in, bar)

	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	topic := topics.Declared(e.kafka.TopicPrefix).Commands.Name
	carried, end, err := c.begin(ctx, topic, e.stderr)
	if err != nil {
		return err
	}
	s := &sender{
		cmd: c, client: client, ctx: ctx, fail: cancel, topic: topic, trace: carried,
		report: func(line int, err error) {
			// Without a bar on the line there is nothing to clear.
			_ = bar.Clear()
			fmt.Fprintf(e.stderr, "line %d: %v\n", line, err)
		},
	}
	start := time.Now()
	go s.watch()
	err = s.sendAll(beside(ctx, c.reader(&reader)))
	flushCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), c.flushLimit(ctx))
	defer stop()
	if failed := s.flush(flushCtx); failed != nil { // so it is not so that what is above a bad line was sent
		err = failed
	}
	if e.ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	_ = bar.Finish()
	end(s.acknowledged.Load(), err)
	s.summarize(e.stdout, time.Since(start))
	return err
}

// flushLimit is how long to wait at the end: what is under way has its own
// time limit, but an interrupted user is not kept waiting.
func (c *sendCmd) flushLimit(ctx context.Context) time.Duration {
	if ctx.Err() != nil {
		return flushTimeout
	}
	return c.Timeout + flushTimeout
}

// open returns the file and its size in bytes, -1 if that is not known.
func (c *sendCmd) open(stdin io.Reader) (io.ReadCloser, int64, error) {
	if c.File == "-" {
		return io.NopCloser(stdin), -1, nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, 0, fmt.Errorf("open the commands: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open the commands: %w", err), f.Close())
	}
	if !info.Mode().IsRegular() {
		return f, -1, nil
	}
	return f, info.Size(), nil
}

func (c *sendCmd) reader(in io.Reader) commandfile.Next {
	if c.Format == "csv" || c.Format == "auto" && strings.EqualFold(filepath.Ext(c.File), ".csv") {
		return commandfile.CSV(in, c.Type)
	}
	return commandfile.NDJSON(in, c.Type)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// sender produces entries; ctx ends with the first failure as its cause.
type sender struct {
	cmd    *sendCmd
	client *kgo.Client
	ctx    context.Context //nolint:containedctx // the life of one send
	fail   context.CancelCauseFunc
	topic  string
	report func(line int, err error)
	trace  telemetry.Carried // of the first commands; none unless asked for

	produced         int
	badSent, badLeft int // lines that could not be read
	acknowledged     atomic.Int64
}

// sendAll hands all entries to the client, which blocks it while too many are
// in flight.
func (s *sender) sendAll(next commandfile.Next) error {
	for {
		entry, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the commands: %w", err)
		}
		if s.ctx.Err() != nil {
			return nil // flush returns why
		}
		if entry.Line < s.cmd.FromLine {
			continue
		}
		record, err := s.record(entry)
		if err != nil {
			send := s.cmd.SendBad && record != nil
			if send {
				s.badSent++
			} else {
				s.badLeft++
			}
			s.report(entry.Line, err)
			if !s.cmd.SkipBad && !s.cmd.SendBad {
				return fmt.Errorf("stopped at line %d; what is above it was sent: mend it and go on with --from-line=%d, or leave such lines out with --skip-bad",
					entry.Line, entry.Line)
			}
			if !send {
				continue
			}
		}
		s.produced++
		s.client.Produce(s.ctx, record, s.done)
	}
}

// watch ends the send where nothing is acknowledged for twice as long as a
// command may take. The client's own bound ends with the first request that has
// the record: if its answer never comes, the record is sent again and again.
func (s *sender) watch() {
	tick := time.NewTicker(s.cmd.Timeout / 10)
	defer tick.Stop()
	last, since := int64(0), time.Now()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		if now := s.acknowledged.Load(); now != last || s.client.BufferedProduceRecords() == 0 {
			last, since = now, time.Now()
		}
		if time.Since(since) > 2*s.cmd.Timeout {
			s.fail(fmt.Errorf("send to %s: no broker has acknowledged anything for %s", s.topic, 2*s.cmd.Timeout))
		}
	}
}

// beside reads one entry at a time beside who waits for it, who is told of the
// end of ctx meanwhile: what comes over a pipe may not come for a long time.
func beside(ctx context.Context, next commandfile.Next) commandfile.Next {
	type read struct {
		entry commandfile.Entry
		err   error
	}
	asked, got := make(chan struct{}), make(chan read, 1)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-asked:
			}
			entry, err := next()
			got <- read{entry, err}
		}
	}()
	return func() (commandfile.Entry, error) {
		select {
		case <-ctx.Done():
			return commandfile.Entry{}, io.EOF
		case asked <- struct{}{}:
		}
		select {
		case <-ctx.Done():
			return commandfile.Entry{}, io.EOF
		case r := <-got:
			return r.entry, r.err
		}
	}
}

// record makes an entry's record. With an error it is the record of bytes that
// nobody can read, as they are, or nil if there are none.
func (s *sender) record(entry commandfile.Entry) (*kgo.Record, error) {
	envelope := cloudevents.Envelope{
		ID: entry.ID, Source: s.cmd.Source, Type: entry.Type, ContentType: s.cmd.ContentType.ContentType(), Time: time.Now(),
	}
	if envelope.ID == "" {
		envelope.ID = uuid.NewString()
	}
	if entry.Err != nil {
		envelope.ContentType = schemas.ContentTypeJSON // the line is none of the others in any case
	}
	var trace telemetry.Carried
	if s.produced < telemetry.TogetherMax {
		trace = s.trace
	}
	r := &kgo.Record{Topic: s.topic, Headers: trace.AppendTo(cloudevents.Headers(envelope))}
	if entry.Err != nil {
		if entry.Raw == nil {
			return nil, entry.Err
		}
		r.Value = slices.Clone(entry.Raw)
		return r, entry.Err
	}
	r.Key = []byte(entry.Command.SKU)
	r.Value = s.cmd.ContentType.AppendCommand(nil, &entry.Command)
	_, err := cloudevents.Parse(r.Headers)
	if s.cmd.Mode == "structured" {
		envelope.TraceParent, envelope.TraceState = string(trace.TraceParent), string(trace.TraceState)
		r.Headers, r.Value = cloudevents.Structured(envelope, r.Value)
	}
	return r, err
}

// done is called by the client for each record, one at a time.
func (s *sender) done(_ *kgo.Record, err error) {
	switch {
	case err == nil:
		s.acknowledged.Add(1)
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		s.fail(fmt.Errorf("the topic %s does not exist: create it with `lotline topics apply`, or check --kafka-topic-prefix", s.topic))
	default:
		s.fail(fmt.Errorf("send to %s: %w", s.topic, err))
	}
}

// flush waits for what is in flight, and returns why the send ended early.
func (s *sender) flush(ctx context.Context) error {
	if err := s.client.Flush(ctx); err != nil {
		return fmt.Errorf("wait for acknowledgements: %w", err)
	}
	return context.Cause(s.ctx)
}

func (s *sender) summarize(out io.Writer, took time.Duration) {
	n := s.acknowledged.Load()
	fmt.Fprintf(out, "sent %d commands in %s (%.0f a second)", n, took.Round(time.Millisecond), float64(n)/max(took.Seconds(), 1e-9))
	if left := int64(s.produced) - n; left > 0 {
		fmt.Fprintf(out, "; %d were not acknowledged", left)
	}
	if s.badSent > 0 {
		fmt.Fprintf(out, "; %d bad lines, as they are sent", s.badSent)
	}
	if s.badLeft > 0 {
		fmt.Fprintf(out, "; %d bad lines, not sent", s.badLeft)
	}
	if id := s.trace.TraceID(); id != "" {
		fmt.Fprintf(out, "; trace %s has the first %d", id, min(s.produced, telemetry.TogetherMax))
	}
	fmt.Fprintln(out)
}
