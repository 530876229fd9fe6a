// Package stack boots what ships, the Run functions of the allocator, the projector and the gateway, in one process
// against given servers, after applying topics and migrations.
//
// The dev stack and black-box tests call it. It may import the services' roots, topics and pkg.
package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/lotline/lotline/pkg/clickhouseclient"
	"github.com/lotline/lotline/pkg/kafkaclient"
	"github.com/lotline/lotline/pkg/readmodel/stores"
	"github.com/lotline/lotline/services/allocator"
	"github.com/lotline/lotline/services/gateway"
	"github.com/lotline/lotline/services/projector"
	"github.com/lotline/lotline/tests/internal/ports"
	"github.com/lotline/lotline/topics"
)

const (
	readyWithin = 60 * time.Second
	pollEvery   = 20 * time.Millisecond
	probeWithin = 2 * time.Second
)

// Servers says where the servers are, and what in them belongs to one stack.
type Servers struct {
	Kafka       []string // brokers
	TopicPrefix string
	PostgresURL string // of a database that exists, for a superuser; the services get users of their own
	ClickHouse  string // host:port, native protocol
	Database    string // in ClickHouse; made if it is missing
	ReadModel   string // as of --read-model; "": ClickHouse
	Redis       string // host:port, for that read model
	Replication int16  // of the topics
}

// Config is the configuration of every service in a stack.
type Config struct {
	Owner           string                  // URL of a Postgres superuser, who migrates
	User            string                  // what the names begin with of users in Postgres, who are made for services without a URL, and stay
	ClickHouseOwner clickhouseclient.Config // who migrates
	KafkaAdmin      kafkaclient.Config      // who applies the topics
	Allocator       allocator.Config
	Projector       projector.Config
	Gateway         gateway.Config
	Replication     int16 // of the topics
}

// Configure returns the services' default configuration on the given servers, with free ports on 127.0.0.1. They have no
// Postgres URLs yet: Prepare makes users for them.
func Configure(s Servers) (Config, error) {
	kafka := kafkaclient.Config{Brokers: s.Kafka, TopicPrefix: s.TopicPrefix}
	c := Config{
		Allocator: allocator.DefaultConfig(), Projector: projector.DefaultConfig(), Gateway: gateway.DefaultConfig(),
		Owner: s.PostgresURL, User: user(s.Database), Replication: s.Replication,
	}
	c.KafkaAdmin, c.Allocator.Kafka, c.Projector.Kafka, c.Gateway.Kafka = kafka, kafka, kafka, kafka
	c.Projector.ClickHouse.Addrs, c.Projector.ClickHouse.Database = []string{s.ClickHouse}, s.Database
	c.ClickHouseOwner = clickhouseclient.Config(c.Projector.ClickHouse)
	c.Allocator.PostgresURL, c.Projector.ReadPostgres.URL, c.Gateway.ReadPostgres.URL, c.Gateway.WriteSide.PostgresURL = "", "", "", ""
	if s.ReadModel != "" {
		c.Projector.ReadModel, c.Gateway.ReadModel = s.ReadModel, s.ReadModel
		c.Projector.Redis.Addr, c.Projector.Redis.Prefix = s.Redis, s.Database
		c.Gateway.Redis = c.Projector.Redis
	}
	c.Gateway.ClickHouse.Addrs, c.Gateway.ClickHouse.Database = []string{s.ClickHouse}, s.Database
	for _, addr := range []*string{&c.Allocator.AdminAddr, &c.Projector.AdminAddr, &c.Gateway.AdminAddr, &c.Gateway.HTTPAddr} {
		var err error
		if *addr, err = freeAddr(); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

func user(database string) string { return "user_" + database }

// Users returns the names in Postgres of the users whom Prepare makes for a stack with that database.
func Users(database string) []string {
	return []string{user(database) + "_allocator", user(database) + "_projector", user(database) + "_gateway"}
}

func freeAddr() (string, error) {
	port, err := ports.Free()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// Stack is a set of running services.
type Stack struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // why the services ended; to be read once done is closed
}

// Prepare applies topics and migrations, and lets services that have no URL of the Postgres they need log in as users with no
// more rights than they need; it may be called again.
func Prepare(ctx context.Context, c *Config) error {
	if err := applyTopics(ctx, *c); err != nil {
		return err
	}
	warning, err := allocator.Migrate(ctx, c.Owner)
	if err == nil && warning != "" {
		err = errors.New(warning)
	}
	if err != nil {
		return err
	}
	owner := c.Projector.Config
	owner.ClickHouse, owner.ReadPostgres.URL = stores.ClickHouseSettings(c.ClickHouseOwner), c.Owner
	if warning, err = projector.Migrate(ctx, stores.MigrateConfig{Config: owner}); err == nil && warning != "" {
		err = errors.New(warning)
	}
	if err != nil {
		return err
	}
	return c.logIn(ctx)
}

// logIn gives each service the Postgres URL that it needs and has not.
func (c *Config) logIn(ctx context.Context) error {
	for _, login := range []struct {
		needed        bool
		url           *string
		service, role string
	}{
		{true, &c.Allocator.PostgresURL, "_allocator", "lotline_allocator"},
		{c.Projector.ReadModel == stores.Postgres, &c.Projector.ReadPostgres.URL, "_projector", "lotline_projector"},
		{c.Gateway.ReadModel == stores.Postgres, &c.Gateway.ReadPostgres.URL, "_gateway", "lotline_gateway"},
		{c.Gateway.ReadModel == stores.WriteSide, &c.Gateway.WriteSide.PostgresURL, "_gateway", "lotline_gateway"},
	} {
		if !login.needed || *login.url != "" {
			continue
		}
		var err error
		if *login.url, err = Login(ctx, c.Owner, c.User+login.service, login.role); err != nil {
			return err
		}
	}
	return nil
}

func applyTopics(ctx context.Context, c Config) error {
	client, err := kgo.NewClient(c.KafkaAdmin.Opts("lotline-stack")...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	changes, err := topics.Diff(ctx, admin, topics.Declared(c.KafkaAdmin.TopicPrefix).All(), c.Replication)
	if err != nil {
		return fmt.Errorf("compare the topics: %w", err)
	}
	if err := errors.Join(changes.Err(), topics.Apply(ctx, admin, changes)); err != nil {
		return fmt.Errorf("apply the topics: %w", err)
	}
	return nil
}

// Start prepares the servers, starts the services and waits until all say that they are ready. They run until Stop, or
// until one of them fails, which ends the others.
func Start(ctx context.Context, c Config) (*Stack, error) {
	if err := Prepare(ctx, &c); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	group, services := errgroup.WithContext(running)
	group.Go(func() error { return named("allocator", allocator.Run(services, c.Allocator)) })
	admins := []string{c.Allocator.AdminAddr, c.Gateway.AdminAddr}
	if c.Projector.ReadModel != stores.WriteSide {
		admins = append(admins, c.Projector.AdminAddr)
		group.Go(func() error { return named("projector", projector.Run(services, c.Projector)) })
	}
	group.Go(func() error { return named("gateway", gateway.Run(services, c.Gateway)) })
	s := &Stack{cancel: cancel, done: make(chan struct{})}
	go func() {
		s.err = group.Wait()
		close(s.done)
	}()
	for _, addr := range admins {
		if err := s.awaitReady(ctx, "http://"+addr+"/readyz"); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, nil
}

func named(service string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", service, err)
	}
	return nil
}

// Done is closed when the services have ended.
func (s *Stack) Done() <-chan struct{} { return s.done }

// Stop ends the services, waits for them, and returns why they ended if that was an error.
func (s *Stack) Stop() error {
	s.cancel()
	<-s.done
	return s.err
}

func (s *Stack) awaitReady(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := Probe(ctx, address)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return errors.New("a service ended before all were ready")
		case <-ctx.Done():
			return fmt.Errorf("the services are not ready: %w", err)
		case <-time.After(pollEvery):
		}
	}
}

// Probe asks for an address and returns an error, with the beginning of the answer, unless it is 200 OK.
func Probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body := make([]byte, 1<<10)
	n, _ := response.Body.Read(body) // for people only
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", address, response.Status, body[:n])
	}
	return nil
}
