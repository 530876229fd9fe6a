// Package commandlog is the allocator's loop on Kafka: it reads commands, has them applied, and publishes the events
// and dead letters in one Kafka transaction with the group's offsets.
//
// Two facts are kept in two places, each atomic with what it describes. Postgres: a partition's next offset, below
// which every command is applied; it moves with the state and the outbox. Kafka: the group's committed offset, below
// which every event is published; it moves with the events. Published never passes applied, and what lies between is
// in the outbox. DESIGN.md beside the service walks through every crash.
//
// It may import apply, the domain's and the outbox's types, postgres for positions, schemas, topics, pkg and the Kafka
// client. The service's root makes a Worker for each slot.
//
// One poll's way: Worker.session (worker.go) joins the group and partitions.go decides where it starts; session.step
// (session.go) polls (polling.go) and has the commands applied (together.go, lanes.go, applying.go), finds what they have to publish
// (collecting.go), in which order (ordering.go), and publishes it (publishing.go), after others' if it has to (waiting.go), in a
// transaction (transactions.go) of one of two producers in turn (producers.go). After one that was not committed it goes back
// (rewinding.go). What an earlier life left open is ended first (settling.go). What is decided again after a restore is held against what was published (past.go,
// eventlog.go). wire.go is how records become commands and events records.
package commandlog
