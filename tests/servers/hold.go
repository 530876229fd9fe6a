package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Hold makes a directory for servers' data, if it is missing, and keeps other programs that call Hold away from it until release is
// called: Postgres would refuse a second one of itself, and Apache Kafka would spoil the log of the first. refusal is the error's
// sentence where another holds it.
func Hold(dir, refusal string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for data: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if locked, err := lock.TryLock(); err != nil || !locked {
		return nil, errors.Join(errors.New(refusal), err)
	}
	return lock.Unlock, nil
}
