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

// Kill ends the process at once, as kill -9 does.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed, which is an error of its
	return err
}

// Usage is the process under a name, to ask what it uses.
func (p *Process) Usage(name string) usage.Process {
	return usage.Process{Name: name, PID: p.cmd.Process.Pid}
}
