// Command devstack is `make run`: it starts Kafka, Postgres, ClickHouse and all of Lotline's services on this machine,
// with their data below .run, and stops them on Ctrl-C. It may import the test servers and stack, schemas, topics and
// pkg.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lotline/lotline/pkg/lifecycle"
	"github.com/lotline/lotline/pkg/telemetry"
	"github.com/lotline/lotline/tests/servers"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

const (
	host        = "127.0.0.1"
	topicPrefix = "lotline"
	database    = "lotline" // in Postgres and in ClickHouse
)

// config is what can be set, by flag or environment; two stacks run side by side with other ports and directories.
type config struct {
	Kafka              string `help:"The Kafka: kfake (in Go, no JVM) or apache. Each has data of its own." env:"KAFKA" enum:"kfake,apache" default:"kfake"`
	RunDir             string `help:"Where data, logs and endpoints.json are." default:".run" type:"path"`
	KafkaPort          int    `help:"Port of Kafka." default:"9092"`
	KafkaQuorumPort    int    `help:"Port of Apache Kafka's controller." default:"9093"`
	PostgresPort       int    `help:"Port of Postgres." default:"5432"`
	ClickHousePort     int    `name:"clickhouse-port" help:"Port of ClickHouse's native protocol." default:"9000"`
	ClickHouseHTTPPort int    `name:"clickhouse-http-port" help:"Port of ClickHouse over HTTP." default:"8123"`
	GatewayPort        int    `help:"Port of the gateway." default:"8080"`
	AllocatorAdminPort int    `help:"Port of the allocator's health and metrics." default:"9081"`
	ProjectorAdminPort int    `help:"Port of the projector's health and metrics." default:"9082"`
	GatewayAdminPort   int    `help:"Port of the gateway's health and metrics." default:"9083"`
	OrdersPerSecond    int    `help:"Orders of a made-up shop that come in all the time, up to 1000 a second; 0 = none." default:"0"`

	Telemetry telemetry.Config `embed:""`
}

// Validate checks what kong cannot.
func (c *config) Validate() error {
	if c.OrdersPerSecond < 0 || c.OrdersPerSecond > ordersPerSecondMax {
		return fmt.Errorf("--orders-per-second is %d: from 0 to %d can be made up", c.OrdersPerSecond, ordersPerSecondMax)
	}
	return nil
}

func main() {
	servers.Init()
	lifecycle.MainInTerminal("devstack", "Runs Lotline and its servers on this machine.", func(ctx context.Context, c config) error {
		return run(ctx, c, os.Stdout)
	})
}

// run works until ctx ends or something of the stack does.
func run(ctx context.Context, c config, out io.Writer) (err error) {
	release, err := servers.Hold(c.RunDir, fmt.Sprintf("another stack runs in %s: stop it, or set LOTLINE_RUN_DIR and other ports", c.RunDir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := c.portsFree(); err != nil {
		return err
	}
	logFile := filepath.Join(c.RunDir, "services.log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the services' log: %w", err)
	}
	defer log.Close()
	slog.SetDefault(lifecycle.NewLog(log, slog.LevelInfo))

	fmt.Fprintf(out, "Starting Lotline; the servers' logs and data are in %s, the services log to %s.\n", c.dataDir(), logFile)
	hosts, err := c.startServers(ctx)
	defer func() {
		err = errors.Join(err, hosts.stop())
		fmt.Fprintln(out, "Everything has stopped.")
	}()
	if err == nil {
		err = c.serve(ctx, hosts, out)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // Ctrl-C while starting
	}
	return err
}

// serve runs the services on running servers.
func (c config) serve(ctx context.Context, hosts *hosts, out io.Writer) (err error) {
	services, err := c.configure(ctx, hosts)
	if err != nil {
		return err
	}
	running, err := stack.Start(ctx, services)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(out, "\nStopping the services, then the servers.")
		err = errors.Join(err, running.Stop())
	}()
	at := endpoints{
		Gateway: "http://" + services.Gateway.HTTPAddr, Kafka: hosts.kafka.Addr,
		ClickHouseHTTP: "http://" + hosts.clickhouse.HTTPAddr, ClickHouseNative: hosts.clickhouse.Addr,
		Postgres: services.Owner,
	}
	client, err := kgo.NewClient(append(services.Gateway.Kafka.Opts("lotline-devstack"), kgo.DefaultProduceTopic(topics.Declared(topicPrefix).Commands.Name))...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	defer client.Close()
	if err := seed(ctx, client, at.Gateway, out); err != nil {
		return err
	}
	file := filepath.Join(c.RunDir, "endpoints.json")
	if err := at.write(file); err != nil {
		return err
	}
	defer os.Remove(file) // what it says is over
	if err := guide(out, at, services, hosts.postgres.Addr, file); err != nil {
		return err
	}
	ordering := make(chan error, 1)
	if c.OrdersPerSecond > 0 {
		fmt.Fprintf(out, "Orders come in, %d a second.\n", c.OrdersPerSecond)
		go func() { ordering <- orders(ctx, client, c.OrdersPerSecond) }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ordering:
		return err
	case <-running.Done():
		return nil // Stop says why
	case name := <-hosts.ended():
		return fmt.Errorf("%s has ended; its log is in %s", name, c.dataDir())
	}
}

func (c config) dataDir() string { return filepath.Join(c.RunDir, c.Kafka) }

// configure makes the database and returns the services' configuration.
func (c config) configure(ctx context.Context, hosts *hosts) (stack.Config, error) {
	postgresURL, err := createDatabase(ctx, hosts.postgres.DSN)
	if err != nil {
		return stack.Config{}, err
	}
	services, err := stack.Configure(stack.Servers{
		Kafka: []string{hosts.kafka.Addr}, TopicPrefix: topicPrefix, PostgresURL: postgresURL,
		ClickHouse: hosts.clickhouse.Addr, Database: database, Replication: 1,
	})
	services.Gateway.HTTPAddr = local(c.GatewayPort)
	services.Gateway.AdminAddr = local(c.GatewayAdminPort)
	services.Allocator.AdminAddr = local(c.AllocatorAdminPort)
	services.Projector.AdminAddr = local(c.ProjectorAdminPort)
	services.Gateway.Telemetry, services.Allocator.Telemetry, services.Projector.Telemetry = c.Telemetry, c.Telemetry, c.Telemetry
	services.Gateway.TraceRatio = 1 // whoever has a collector here wants to see what comes next
	return services, err
}

func local(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// portsFree names every port that is none, given twice or taken, and how to choose another.
func (c config) portsFree() error {
	ports := map[string]int{
		"LOTLINE_KAFKA_PORT": c.KafkaPort, "LOTLINE_POSTGRES_PORT": c.PostgresPort,
		"LOTLINE_CLICKHOUSE_PORT": c.ClickHousePort, "LOTLINE_CLICKHOUSE_HTTP_PORT": c.ClickHouseHTTPPort,
		"LOTLINE_GATEWAY_PORT": c.GatewayPort, "LOTLINE_GATEWAY_ADMIN_PORT": c.GatewayAdminPort,
		"LOTLINE_ALLOCATOR_ADMIN_PORT": c.AllocatorAdminPort, "LOTLINE_PROJECTOR_ADMIN_PORT": c.ProjectorAdminPort,
	}
	if c.Kafka == "apache" {
		ports["LOTLINE_KAFKA_QUORUM_PORT"] = c.KafkaQuorumPort
	}
	var errs []error
	users := map[int]string{}
	for _, variable := range slices.Sorted(maps.Keys(ports)) {
		port := ports[variable]
		if port < 1 || port > math.MaxUint16 {
			errs = append(errs, fmt.Errorf("%s=%d is no port: choose one from 1 to %d", variable, port, math.MaxUint16))
			continue
		}
		if other := users[port]; other != "" {
			errs = append(errs, fmt.Errorf("%s and %s are both %d: set one to another", other, variable, port))
			continue
		}
		users[port] = variable
		conn, err := net.DialTimeout("tcp", local(port), time.Second)
		if err == nil {
			errs = append(errs, fmt.Errorf("port %d is taken: set %s to another", port, variable), conn.Close())
		}
	}
	return errors.Join(errs...)
}
