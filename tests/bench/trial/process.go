package trial

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lotline/lotline/tests/bench/usage"
)

// Process is a program that works on a site.
type Process struct {
	cmd *exec.Cmd
	log bytes.Buffer
}

// Start runs a program, one that NewGround has built if its name has no folder, with the site's database in its environment.
func (s *Site) Start(program string, args ...string) (*Process, error) {
	if !strings.Contains(program, "/") {
		program = filepath.Join(s.Dir, program)
	}
	p := &Process{cmd: exec.Command(program, args...)}
	p.cmd.Env = append(os.Environ(), "LOTLINE_POSTGRES_URL="+s.PostgresURL)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// exitOfTerm is what a JVM ends with after SIGTERM, also if it ended well.
const exitOfTerm = 128 + int(syscall.SIGTERM)

// Stop ends the process as an operator would. What it wrote to its log is in an error.
func (p *Process) Stop() error {
	signalled := p.cmd.Process.Signal(syscall.SIGTERM)
	err := p.cmd.Wait()
	if p.cmd.ProcessState.ExitCode() == exitOfTerm {
		err = nil
	}
	if err = errors.Join(signalled, err); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(p.cmd.Path), err, p.log.Bytes())
	}
	return nil
}

// Kill ends the process at once, as kill -9 does. That it had ended by itself is an error, with what it wrote to its log.
func (p *Process) Kill() error {
	// Neither says whether it still ran: until it is waited for, a child that has ended can be killed.
	_, _ = p.cmd.Process.Kill(), p.cmd.Wait()
	if ended := p.cmd.ProcessState.String(); ended != "signal: killed" {
		return fmt.Errorf("%s was not running any more (%s): %s", filepath.Base(p.cmd.Path), ended, p.log.Bytes())
	}
	return nil
}

// Usage is the process under a name, to ask what it uses.
func (p *Process) Usage(name string) usage.Process {
	return usage.Process{Name: name, PID: p.cmd.Process.Pid}
}
