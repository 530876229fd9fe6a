// Package allocation is Lotline's domain: which batch of stock an order line
// gets. It is pure: (a SKU's state, a command) -> (a new state, events). There is
// no clock, no randomness, no I/O, and nothing depends on the order of a map, so
// the same commands give the same events, however they are divided into chunks.
//
// It may import the standard library only. Package apply calls it: for each SKU
// of a poll it loads a Product and the Facts its commands name, lets the Product
// Decide command after command, writes the Changes in one transaction and tells
// the Product to Settle:
//
//	p := NewProduct(sku, version, openBatches, limits) // or one kept from before
//	p.Learn(facts)                                     // rows the chunk's commands name
//	events, err = p.Decide(command, events)            // for each command, in log order
//	rows := p.Changes()                                // to write, if p.Dirty()
//	p.Settle()                                         // once they are committed
//
// When the commit fails, or the rows may have changed behind its back, the
// caller drops the Product and loads another: a Product never goes back.
package allocation
