package usage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ProfileMax bounds a CPU profile: an admin listener ends an answer after 15 seconds.
const ProfileMax = 10 * time.Second

// CPUProfile returns, for pprof, what the service with that admin listener (host:port) does in the next seconds. It runs with
// --admin-profiles.
func CPUProfile(ctx context.Context, admin string, span time.Duration) ([]byte, error) {
	body, err := Get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, int(span.Seconds())))
	if err != nil {
		return nil, fmt.Errorf("take a CPU profile: %w", err)
	}
	return body, nil
}

// Get returns what is at an address of an admin listener. An answer other than 200 is an error.
func Get(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %.200s", address, response.Status, body)
	}
	return body, err
}
