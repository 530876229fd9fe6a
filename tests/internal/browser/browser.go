// Package browser opens pages in a real Chromium and uses them as people do: with a mouse, with keys only, on a phone,
// in the dark. It collects what the page complains of, and asks axe what would keep people out.
//
// The tests of the console call it, that of the Superset dashboard for its Chromium, and tests/cmd/fetch brings what it needs. It
// imports chromedp, tests/internal/cache and tests/internal/debian.
package browser

import (
	"context"
	_ "embed"
	"os/exec"
	"path/filepath"

	"github.com/lotline/lotline/tests/internal/cache"
	"github.com/lotline/lotline/tests/internal/debian"
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

// chromium is Debian's.
func chromium() cache.Folder {
	return debian.Packages("chromium", "Chromium and its libraries (240 MB from Debian)", nil, "chromium", "fonts-dejavu-core")
}

// Folders returns what tests in a browser need and this machine does not have, for fetching it.
func Folders() []cache.Folder {
	if _, err := exec.LookPath("chromium"); err == nil {
		return []cache.Folder{axe}
	}
	return []cache.Folder{axe, chromium()}
}

// Installed returns Chromium and what it needs in its environment beside this process's: the machine's own, or the cached one,
// which is fetched if need be.
func Installed(ctx context.Context) (path string, env []string, err error) {
	if path, err = exec.LookPath("chromium"); err == nil {
		return path, nil, nil
	}
	dir, err := chromium().Dir(ctx)
	if err != nil {
		return "", nil, err
	}
	root := filepath.Join(dir, "root")
	libraries, err := debian.Libraries(dir)
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(root, "usr", "lib", "chromium", "chromium"), []string{
		"LD_LIBRARY_PATH=" + libraries, "FONTCONFIG_SYSROOT=" + root, "FONTCONFIG_FILE=/etc/fonts/fonts.conf",
	}, nil
}
