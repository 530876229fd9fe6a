// Package debian unpacks Debian's packages into the cache, without installing them, for which nobody has to be root.
//
// tests/servers and tests/internal/browser call it. It imports the cache only.
package debian

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lotline/lotline/tests/internal/cache"
)

// Packages is a folder with Debian packages of the release that this machine has, and with all that they need but the C
// library: unpacked below "root". They are not pinned: Debian keeps only the newest, and people have it. what is for people;
// those whose names start with one of leaveOut are not unpacked.
func Packages(name, what string, leaveOut []string, packages ...string) cache.Folder {
	release, _ := os.ReadFile("/etc/os-release") // without one there is no apt-get either, and Dir says so
	needs := "the package or program \"" + name + "\" of your system"
	return cache.Folder{
		Name:  name,
		What:  what,
		Pins:  []cache.Pin{{Name: "os-release", Text: release}},
		Tools: []cache.Tool{{Command: "apt-get", Needs: needs}, {Command: "dpkg-deb", Needs: needs}},
		Fill: func(ctx context.Context, dir string) error {
			return unpack(ctx, dir, append(leaveOut, "libc6"), packages)
		},
	}
}

func unpack(ctx context.Context, dir string, leaveOut, packages []string) error {
	apt := filepath.Join(dir, "apt")
	lists, archives, status := filepath.Join(apt, "state", "lists", "partial"), filepath.Join(apt, "cache", "archives"), filepath.Join(apt, "status")
	if err := errors.Join(os.MkdirAll(lists, 0o755), os.MkdirAll(filepath.Join(archives, "partial"), 0o755), os.WriteFile(status, nil, 0o644)); err != nil {
		return err
	}
	get := func(args ...string) error {
		return cache.Run(ctx, dir, "apt-get", append([]string{
			"-qq", "-o", "Dir::State=" + filepath.Join(apt, "state"), "-o", "Dir::State::status=" + status, "-o", "Dir::Cache=" + filepath.Join(apt, "cache"),
			"-o", "APT::Sandbox::User=", "-o", "APT::Install-Recommends=false", "-o", "Debug::NoLocking=true",
		}, args...)...)
	}
	if err := get("update"); err != nil {
		return err
	}
	if err := get(append([]string{"--yes", "--download-only", "install"}, packages...)...); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range found {
		name, _, _ := strings.Cut(filepath.Base(file), "_")
		if left(name, leaveOut) { // the machine's own C library fits its loader
			continue
		}
		if err := cache.Run(ctx, dir, "dpkg-deb", "--extract", file, "root"); err != nil {
			return err
		}
	}
	return os.RemoveAll(apt)
}

func left(name string, leaveOut []string) bool {
	for _, one := range leaveOut {
		if name == one {
			return true
		}
	}
	return false
}

// Libraries are the folders of libraries below a folder that Packages filled, as LD_LIBRARY_PATH has them: also those of a package's
// private ones, which it looks for where it would have been installed.
func Libraries(dir string) (string, error) {
	var libraries, private []string
	for _, at := range []string{"usr/lib", "lib"} {
		system := filepath.Join(dir, "root", at, "*-linux-gnu*")
		found, err := filepath.Glob(system)
		if err != nil {
			return "", err
		}
		libraries = append(libraries, found...)
		if found, err = filepath.Glob(filepath.Join(system, "*", "lib*.so*")); err != nil {
			return "", err
		}
		for _, library := range found {
			private = append(private, filepath.Dir(library))
		}
	}
	return strings.Join(append(libraries, slices.Compact(private)...), ":"), nil
}
