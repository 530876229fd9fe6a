package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/tests/servers"
)

// hosts are the servers of a stack; one that was not started is nil.
type hosts struct{ kafka, postgres, clickhouse *servers.Server }

// startServers starts the servers side by side; those that run are returned with an error too.
func (c config) startServers(ctx context.Context) (*hosts, error) {
	startKafka := servers.StartKfake
	if c.Kafka == "apache" {
		startKafka = servers.StartKafka
	}
	var (
		h     hosts
		group errgroup.Group
	)
	for _, s := range []struct {
		name             string
		into             **servers.Server
		start            func(context.Context, servers.Options) (*servers.Server, error)
		port, secondPort int
	}{
		{"kafka", &h.kafka, startKafka, c.KafkaPort, c.KafkaQuorumPort},
		{"postgres", &h.postgres, servers.StartPostgres, c.PostgresPort, 0},
		{"clickhouse", &h.clickhouse, servers.StartClickHouse, c.ClickHousePort, c.ClickHouseHTTPPort},
	} {
		group.Go(func() error {
			server, err := s.start(ctx, servers.Options{
				DataDir: filepath.Join(c.dataDir(), s.name), Port: s.port, SecondPort: s.secondPort,
			})
			if err == nil {
				*s.into = server
			}
			return err
		})
	}
	err := group.Wait()
	return &h, err
}

func (h *hosts) started() []*servers.Server {
	var started []*servers.Server
	for _, s := range []*servers.Server{h.kafka, h.postgres, h.clickhouse} {
		if s != nil {
			started = append(started, s)
		}
	}
	return started
}

func (h *hosts) stop() error {
	var group errgroup.Group
	for _, s := range h.started() {
		group.Go(s.Stop)
	}
	return group.Wait()
}

// ended receives the name of each server that ends.
func (h *hosts) ended() <-chan string {
	started := h.started()
	names := make(chan string, len(started))
	for _, s := range started {
		go func() {
			<-s.Exited()
			names <- s.Name
		}()
	}
	return names
}

// createDatabase makes the services' database in Postgres if it is missing, and returns its URL.
func createDatabase(ctx context.Context, dsn string) (string, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+database)
	}
	u, parseErr := url.Parse(dsn)
	if err := errors.Join(err, parseErr); err != nil {
		return "", fmt.Errorf("make the database %s: %w", database, err)
	}
	u.Path = "/" + database
	return u.String(), nil
}
