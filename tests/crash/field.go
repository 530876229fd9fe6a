package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/lotline/lotline/tests/verify"
)

// Field is where a drill takes place: two allocators and two projectors on servers that can be taken away.
type Field struct {
	*pipeline
	hosts    *Hosts
	options  DrillOptions
	admin    map[string]string // "allocator a" -> host:port
	during   []string          // lines to send while the faults are there
	effects  []Effect
	measured []string
	report   *verify.Report
}

var processes = [][2]string{{"allocator", "a"}, {"allocator", "b"}, {"projector", "a"}, {"projector", "b"}}

const (
	noticedWithin = 90 * time.Second // that a server is away, or back
	lookEvery     = 50 * time.Millisecond
)

func newField(ctx context.Context, hosts *Hosts, bin string, o DrillOptions, out io.Writer) (*Field, error) {
	p, err := newPipeline(ctx, hosts.direct(), bin, out)
	if err != nil {
		return nil, err
	}
	f := &Field{pipeline: p, hosts: hosts, options: o, admin: make(map[string]string)}
	for _, process := range processes {
		if f.admin[process[0]+" "+process[1]], err = freeAddr(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *Field) startAll(ctx context.Context) error {
	for _, process := range processes {
		if err := f.run(ctx, process[0], process[1]); err != nil {
			return err
		}
	}
	return nil
}

// run starts a service that reaches every server through its proxy.
func (f *Field) run(ctx context.Context, program, instance string) error {
	args := []string{"--admin-addr=" + f.admin[program+" "+instance]}
	switch program {
	case "allocator":
		proxied, err := f.hosts.proxied(f.target.PostgresURL)
		if err != nil {
			return err
		}
		args = append(args, "--postgres-url="+proxied)
	case "projector":
		args = append(args, "--clickhouse-addrs="+f.hosts.proxies[clickHouse].Listen)
	}
	return f.start(ctx, program, instance, args...)
}

func (f *Field) process(program, instance string) *exec.Cmd { return f.procs[program+" "+instance] }

// stop ends a service as an operator does, and waits for it.
func (f *Field) stop(program, instance string) error {
	cmd := f.process(program, instance)
	delete(f.procs, program+" "+instance)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s %s: %w", program, instance, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s %s did not end well, see %s: %w", program, instance, f.dir, err)
	}
	return nil
}

// notReady asks a service what keeps it from being ready: nothing if it is.
func (f *Field) notReady(ctx context.Context, program, instance string) (map[string]string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.admin[program+" "+instance]+"/readyz", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var body struct {
		NotReady map[string]string `json:"not_ready"`
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		return nil, err
	}
	if (response.StatusCode == http.StatusOK) != (len(body.NotReady) == 0) {
		return nil, fmt.Errorf("/readyz of %s %s answers %d with %v", program, instance, response.StatusCode, body.NotReady)
	}
	return body.NotReady, nil
}

// outages are the components that a service's metrics say are out of order.
func (f *Field) outages(ctx context.Context, program, instance string) ([]string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.admin[program+" "+instance]+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s %s: %w", program, instance, err)
	}
	var components []string
	for _, metric := range families["lotline_outage_start_timestamp_seconds"].GetMetric() {
		if metric.GetGauge().GetValue() > 0 {
			components = append(components, metric.GetLabel()[0].GetValue())
		}
	}
	return components, nil
}

// names waits until some service of the program says that it is not ready because of the server, in /readyz and in its
// metrics, and returns what it says.
func (f *Field) names(ctx context.Context, program, server string) (string, error) {
	var last []string
	ctx, cancel := context.WithTimeout(ctx, noticedWithin)
	defer cancel()
	for {
		last = last[:0]
		for _, process := range processes {
			if process[0] != program || f.process(program, process[1]) == nil {
				continue
			}
			says, other, err := f.tells(ctx, process, server)
			if says != "" {
				return fmt.Sprintf("/readyz of %s %s: %s", program, process[1], clip(says)), nil
			}
			if last = append(last, other...); err != nil {
				last = append(last, err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no %s said within %s that %s is away, only %q", program, noticedWithin, server, last)
		case <-time.After(lookEvery):
		}
	}
}

// tells is what a service says of a server that keeps it from being ready, in /readyz and in its metrics, and what else
// it says.
func (f *Field) tells(ctx context.Context, process [2]string, server string) (says string, other []string, err error) {
	faults, err := f.notReady(ctx, process[0], process[1])
	for _, component := range slices.Sorted(maps.Keys(faults)) {
		fault := component + ": " + faults[component]
		if !strings.Contains(strings.ToLower(fault), server) {
			other = append(other, fault)
			continue
		}
		counted, err := f.outages(ctx, process[0], process[1])
		if err == nil && slices.Contains(counted, component) {
			return fault, other, nil
		}
		other = append(other, fmt.Sprintf("/readyz names %s, the metrics have outages of %q (%v)", component, counted, err))
	}
	return "", other, err
}

// readyAgain waits until every service that should run says that it is ready.
func (f *Field) readyAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, noticedWithin)
	defer cancel()
	for _, process := range processes {
		for {
			faults, err := f.notReady(ctx, process[0], process[1])
			counted, errCounted := f.outages(ctx, process[0], process[1])
			if err = errors.Join(err, errCounted); err == nil && len(faults) == 0 && len(counted) == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s %s was not ready again within %s: %v, and its metrics have outages of %q: %w", process[0], process[1], noticedWithin, faults, counted, errors.Join(err, ctx.Err()))
			case <-time.After(lookEvery):
			}
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 160 {
		return s[:160] + "…"
	}
	return s
}
