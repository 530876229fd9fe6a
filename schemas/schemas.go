// Package schemas is the wire: what commands and events look like as bytes.
//
// The .proto files under proto/ are the one source of names, types and meaning; commandv1 and eventv1 are
// generated from them. This package is their canonical JSON (flat names, numbers as numbers, every field
// present, one possible encoding of a value) and their protobuf, as plain Go structs, encoders that do not
// allocate and strict decoders for bytes that anybody may have sent. Golden files in testdata hold every
// encoding ever published; they stay readable for ever.
//
// It may import the standard library, jsontext, protowire and the generated packages, and no other module of
// Lotline. Adapters of the services and the operator's command call it; the domain does not know it.
// Everything here is safe for concurrent use.
package schemas

// Limits of what the decoders read; beyond them a record is refused.
const (
	MaxIDBytes   = 255     // bytes of an id: orderid, sku, ref, batchref, commandid, commandsource, reason
	MaxDataBytes = 1 << 20 // bytes of a record's value
	MaxDepth     = 16      // JSON objects and arrays inside each other, the outermost included
)
