package servers

import (
	"os"
	"os/exec"
	"syscall"
)

// bindToParent keeps a terminal's Ctrl-C from the child, whose starter decides about the order, and has the kernel kill
// it when the starter dies.
func bindToParent(cmd *exec.Cmd) {
	attr(cmd).Setpgid = true
	attr(cmd).Pdeathsig = syscall.SIGKILL
}

const (
	nobody         = 65534
	capDACOverride = 1
)

// asOrdinaryUser runs the command as another user than root, whom Postgres refuses. The program keeps one capability of
// root's, to reach a data directory below one that is closed to others, such as root's home.
func asOrdinaryUser(cmd *exec.Cmd) *exec.Cmd {
	if os.Geteuid() == 0 {
		attr(cmd).Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		attr(cmd).AmbientCaps = []uintptr{capDACOverride}
	}
	return cmd
}

// giveToOrdinaryUser hands a file or directory to the user of asOrdinaryUser.
func giveToOrdinaryUser(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, nobody, nobody)
}

func attr(cmd *exec.Cmd) *syscall.SysProcAttr {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	return cmd.SysProcAttr
}
