package gateway

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/lotline/lotline/pkg/admin"
	"github.com/lotline/lotline/pkg/apikeys"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/readmodel"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/services/gateway/internal/apidocs"
	"github.com/lotline/lotline/services/gateway/internal/console"
	"github.com/lotline/lotline/services/gateway/internal/httpapi"
	"github.com/lotline/lotline/services/gateway/internal/projected"
	"github.com/lotline/lotline/services/gateway/internal/reads"
	"github.com/lotline/lotline/topics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// openKeys gives ports the API keys, if there are any, and returns what keeps them up to date until its context ends.
func (c Config) openKeys(ports *httpapi.Ports, log *slog.Logger) (follow func(context.Context) error, err error) {
	if c.HTTPKeysFile == "" {
		return func(context.Context) error { return nil }, nil
	}
	keys, err := apikeys.Open(c.HTTPKeysFile, log)
	if err != nil {
		return nil, err
	}
	ports.Keys = keys
	return keys.Run, nil
}

// adminExtras are what the admin listener serves beside health and metrics.
func (c Config) adminExtras() (more []func(*http.ServeMux)) {
	if c.AdminProfiles {
		more = append(more, admin.Profiles)
	}
	return more
}

// newConsole returns the page that shows what goes on.
func newConsole(cfg Config, set topics.Set, store readmodel.Reader, reader *reads.Reader, health *readiness, log *slog.Logger) *console.Console {
	history, _ := store.(readmodel.Historian) // nil if it keeps none
	return console.New(console.Config{
		Topics: set, ProjectorGroup: projectorGroup(set, store.Name()), ReadModel: store.Name(), ReadWait: readTimeout,
		Kafka: cfg.Kafka.Opts("lotline-gateway-console"),
	}, console.Ports{Reader: reader, History: history, Outages: health.Outages, Log: log})
}

// mounts are the console, whose page is everybody's and asks for a key to show anything, and the API's description.
func mounts(page http.Handler) []httpapi.Mount {
	all := []httpapi.Mount{
		{Path: "/", Handler: page},
		{Path: "/console/static/", Handler: page},
		{Path: "/console/", Scope: apikeys.Read, Handler: page},
		{Path: "/console/dead-letters/", Scope: apikeys.Admin, Handler: page}, // answering them; to see them is no more than to read
	}
	docs := apidocs.Handler()
	for _, path := range apidocs.Paths() {
		all = append(all, httpapi.Mount{Path: path, Handler: docs})
	}
	return all
}

// committed returns what tells how far the read model is: nil for the write side, which has each event before it is published.
func committed(client *kgo.Client, set topics.Set, readModel string) func(context.Context) (map[int32]int64, error) {
	group := projectorGroup(set, readModel)
	if group == "" {
		return nil
	}
	return projected.Committed(client, set.Events.Name, group)
}

// projectorGroup returns whose offsets say how far a read model is; "" for the write side, which nobody projects to.
func projectorGroup(set topics.Set, readModel string) string {
	if readModel == stores.WriteSide {
		return ""
	}
	return set.ProjectorGroupOf(readModel)
}

// mayWrite checks that Kafka answers and would take records of topic from this process.
func mayWrite(client *kgo.Client, topic string) func(context.Context) error {
	return func(ctx context.Context) error {
		return kafkaclient.Check(ctx, client, map[string]kadm.ACLOperation{topic: kadm.OpWrite})
	}
}
