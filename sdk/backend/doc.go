// Package backend is the Go client for services that read, write and watch the
// data of all users.
//
// What comes in: the address of a node's backend port and a credential (New),
// and the words of package events.
//
// What goes out: entries (Client.Get, Client.Entries, Client.Snapshot), verdicts
// (Client.Update, Client.UpdateMany), accepted events of all users as they come
// (Client.Watch), the audit of one user (Client.History), the users
// (Client.Users) and the domain rules (Client.Domains, Client.SetDomains).
// Whatever has no natural end is an iterator: leave the loop to stop it.
//
// What it promises:
//
//   - A write takes effect at most once. It carries a request id, made here
//     when none is given, and what is unavailable is asked again under the same
//     id, with the same bytes, until Options.RetryFor has passed. An error that
//     leaves open whether the write took effect wraps
//     events.ErrUnknownOutcome and names the id (UnknownOutcomeError): asking
//     again under it is safe.
//   - A write that expects an entry (Update.Expect) carries the log id it was
//     read under, so that no version of a history that was lost by restoring a
//     server can be taken for one of this history. Versions without a log id are
//     not sent, unless that is asked for (Update.AnyHistory).
//   - Watch goes on where it was after any interruption: no event is missed and
//     none comes twice within one loop.
//   - A rejection is an answer, not an error: look at Verdict.Outcome.
//
// Every error of the server is wrapped: connect.CodeOf gives its code.
//
// What it refuses to do: keep state on disk, cache, or hide which position an
// answer is true at. A program that must not lose its place in Watch stores the
// positions it gets (Positions) together with what it made of the events.
//
// A Client may be used by many goroutines at once.
package backend
