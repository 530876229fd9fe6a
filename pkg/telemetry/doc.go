// Package telemetry carries the trace context of a command from record to record.
//
// Adapters of services call it. It may import the Kafka client, for its headers.
package telemetry
