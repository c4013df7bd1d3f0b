// Package ingest turns a request to write into an event in the log, and
// waits for what the fold says of it.
//
// What comes in: events of devices and backends (Submit), and new domain rules
// (SetDomains).
//
// What goes out: records, appended to the log, and a decision for each event:
// that of the fold, or refused when the event is not of the form it must have.
//
// What it promises:
//
//   - A decision is the fold's, of a record that is durable and is the caller's
//     own. There are two exceptions, in which nothing is written: an event that
//     no fold could take, for its form, and one whose fate is sealed (Fold.Peek).
//   - Every attempt with the same bytes meets the same answer: what is refused
//     here is a function of the event alone, never of load, time or state.
//   - An error says whether the event may have been written. After
//     events.ErrUnknownOutcome it may have, or may yet be, and sending it again is
//     safe; after any other error it was not, and will not be.
//   - What it writes has the fold version 1, the lowest that can say it, and goes
//     to no partition below that version.
//
// What it refuses to do: decide. It does not know the state, keeps none of its
// own, and starts nothing that goes on after a call has returned. It does not
// retry: only the caller knows how long the answer is worth waiting for.
package ingest
