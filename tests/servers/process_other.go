//go:build !linux

package servers

import (
	"os/exec"
	"syscall"
)

// bindToParent keeps a terminal's Ctrl-C from the child. Elsewhere than on Linux no kernel ends a child with its parent:
// a starter that is killed leaves its servers running.
func bindToParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// asOrdinaryUser leaves the user as it is: Postgres then asks root to be somebody else.
func asOrdinaryUser(cmd *exec.Cmd) *exec.Cmd { return cmd }

func giveToOrdinaryUser(string) error { return nil }
