// Package telemetry follows commands through the services: it sends spans to an OpenTelemetry collector, and carries a
// command's trace context from record to record.
//
// Spans are made only for what somebody has chosen to trace, and never at the expense of the work: nothing waits for the
// collector, what it does not take is lost, and losing it is counted.
//
// The services' roots Start it, their adapters make spans. It may import OpenTelemetry, the Kafka client for its headers,
// and package admin for the build's version.
package telemetry
