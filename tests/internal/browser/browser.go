// Package browser opens pages in a real Chromium and uses them as people do: with a mouse, with keys only, on a phone,
// in the dark. It collects what the page complains of, and asks axe what would keep people out.
//
// The tests of the console call it, and tests/cmd/fetch brings what it needs. It imports chromedp and tests/internal/cache.
package browser

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lotline/lotline/tests/internal/cache"
)

var (
	//go:embed package.json
	packageJSON []byte
	//go:embed package-lock.json
	packageLock []byte
)

var axe = cache.Folder{
	Name:  "axe",
	What:  "axe-core (3 MB from the npm registry)",
	Pins:  []cache.Pin{{Name: "package.json", Text: packageJSON}, {Name: "package-lock.json", Text: packageLock}},
	Tools: []cache.Tool{{Command: "npm", Needs: "npm (Debian: npm)"}},
	Fill: func(ctx context.Context, dir string) error {
		return cache.Run(ctx, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	},
}

// chromium is Debian's, of the release that this machine has, with all that it needs but the C library: unpacked, not
// installed, for which nobody has to be root. Browsers are not pinned: Debian keeps only the newest, and people have it.
func chromium() cache.Folder {
	release, _ := os.ReadFile("/etc/os-release") // without one there is no apt-get either, and Dir says so
	return cache.Folder{
		Name: "chromium",
		What: "Chromium and its libraries (240 MB from Debian)",
		Pins: []cache.Pin{{Name: "os-release", Text: release}},
		Tools: []cache.Tool{
			{Command: "apt-get", Needs: "the package or program \"chromium\" of your system"},
			{Command: "dpkg-deb", Needs: "the package or program \"chromium\" of your system"},
		},
		Fill: unpack,
	}
}

func unpack(ctx context.Context, dir string) error {
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
	if err := get("--yes", "--download-only", "install", "chromium", "fonts-dejavu-core"); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range packages {
		if name, _, _ := strings.Cut(filepath.Base(file), "_"); name == "libc6" { // the machine's own fits its loader
			continue
		}
		if err := cache.Run(ctx, dir, "dpkg-deb", "--extract", file, "root"); err != nil {
			return err
		}
	}
	return os.RemoveAll(apt)
}

// Folders returns what tests in a browser need and this machine does not have, for fetching it.
func Folders() []cache.Folder {
	if _, err := exec.LookPath("chromium"); err == nil {
		return []cache.Folder{axe}
	}
	return []cache.Folder{axe, chromium()}
}

// installed returns Chromium and the environment that it needs: the machine's own, or the cached one.
func installed(ctx context.Context) (path string, env []string, err error) {
	if path, err = exec.LookPath("chromium"); err == nil {
		return path, nil, nil
	}
	dir, err := chromium().Dir(ctx)
	if err != nil {
		return "", nil, err
	}
	root := filepath.Join(dir, "root")
	libraries, err := filepath.Glob(filepath.Join(root, "usr", "lib", "*-linux-gnu*"))
	if err != nil {
		return "", nil, err
	}
	if merged, err := filepath.Glob(filepath.Join(root, "lib", "*-linux-gnu*")); err == nil {
		libraries = append(libraries, merged...)
	}
	return filepath.Join(root, "usr", "lib", "chromium", "chromium"), []string{
		"LD_LIBRARY_PATH=" + strings.Join(libraries, ":"), "FONTCONFIG_SYSROOT=" + root, "FONTCONFIG_FILE=/etc/fonts/fonts.conf",
	}, nil
}
