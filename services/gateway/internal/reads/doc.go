// Package reads answers questions from the read model: where an order's lines are, what is left of a SKU, what became
// of a command, whose SKU a batch is. It gathers what is asked at the same time into few queries, and keeps what is left of
// SKUs in memory, if it may.
//
// The gateway's HTTP API calls it, and the service's root wires it with the Reader of a store and with what follows the
// events topic. It imports pkg (readmodel is the contract of that store) and schemas, and knows no store itself.
//
// What is kept, and why no answer from memory is older than a second and no version goes back: DESIGN.md of the gateway,
// "Availability from memory", with the sequence that breaks it for each thing that is done here.
package reads
