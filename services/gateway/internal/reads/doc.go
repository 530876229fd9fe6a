// Package reads answers questions from the read model: where an order's lines are, what is left of a SKU, what became
// of a command, whose SKU a batch is. It gathers what is asked at the same time into few queries, and keeps what is left of
// SKUs in memory, if it may.
//
// The gateway's HTTP API calls it, and the service's root wires it with the Reader of a store and with what follows the
// events topic. It imports pkg (readmodel is the contract of that store) and schemas, and knows no store itself.
//
// # The cache
//
// Availability is asked for a hundred times an order, and changes with each. So an answer is kept, and the events that
// change it are taken in as they are published: an event has the SKU's next version and the state after it, so an entry
// at version v goes to v+1 without asking the store. Two promises are kept, by each gateway for itself: no answer from
// memory is older than a second, and for nobody does a version go back. Each of these sequences breaks one of them, if
// nothing is done:
//
//   - Fill race. A question reads v5 from the store; the tail passes v6 and v7; v5 is kept. On a quiet SKU nothing would
//     ever correct it. So what the tail said is remembered (recent) until it is projected, an answer of the store is completed by
//     it, and v7 is what is answered and kept. Projected is the committed offset of the projector's group, whose meaning
//     is that all below it is in the store; no time is guessed at. Between two sweeps a question that was asked before
//     the first and answered after the second could still bring home v5: its answer is not used.
//   - What the tail has not said. It begins at the end of the log, and v6 and v7 may be before it and not projected yet. So
//     until all before it is projected (horizon), nothing is kept. If v8 comes, an answer of v5 is known to lack
//     something: it is asked again for up to a second, and then refused.
//   - No room to remember: the projector stands still for hours. What is given up raises the horizon too. SKUs whose
//     changes may have been answered are marked (lost), and not answered from the store before it has caught up: it would
//     be an older version. What is kept goes on being answered, up to date.
//   - A torn answer. The store writes a SKU's row and its batches' one after the other, so a question in between finds v7
//     with a batch of v6. Batches are completed each by its own version, from what is remembered or by the event when it
//     comes, also if the SKU's version says that it is not new.
//   - The store is ahead of the tail. It says v8, which is answered; then the tail's v7 would be older. So v8 takes the place
//     of v7, or v7 is dropped.
//   - The tail stands still: Kafka is away, a partition has no leader, the process was paused. An entry looks as good as
//     ever. So the tail has to prove where it is: again and again the ends of all partitions are asked for, and once it
//     has handed over all before them, everything committed before that question is in. An entry is answered only if the
//     newest such proof is young enough (currentMax).
//   - A token says that the client has seen v8, which another gateway answered. The read model has it, the tail is not there
//     yet, and v7 is in memory, well within its second. So questions with a token are not answered from memory (Anew).
//   - The tail begins again, with a gap: the entries are forgotten. What it said before stays true, and is completed with:
//     or v7, answered a moment ago, would become v5 again.
//   - A partition is added. A SKU's events go on there, and are not read yet. Each proof asks for the partitions anew. An
//     event that comes before its predecessor, from another partition, drops the entry.
//   - The topic is made anew, and its offsets mean other events. A proof compares its id, and the tail begins again.
//   - An event that cannot be read, of a newer allocator, may be about any SKU: the entries are forgotten.
//
// Memory is filled before anybody asks (Reader.Run), in ranges of the store's own order, by the same rules: a list is an answer of
// the store like another, and is completed, kept or refused by what the tail said since it was asked for. It stops where there
// is hardly any room, and what is asked for takes that.
//
// What is left: a partition that the asked broker has not heard of yet; a store that answers from a replica that lags
// behind its acknowledgements (the cache must then be off); and rows that are put right without an event, by a repair or
// a rebuild, which is why entries are asked for again after a while (lifetime). Several gateways differ by up to
// a second: a client that changes between them may see a version go back, unless it passes a token.
package reads
