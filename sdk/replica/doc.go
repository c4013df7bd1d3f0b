// Package replica keeps one user's data on one device: read and written without
// a network, for days or months, and synchronised with a server when there is one.
//
// What comes in: a Store, on disk (OpenStore) or in memory (NewMemoryStore); the
// server's address, the user and a source of tokens (Config); edits of the
// application (Replica.Update); and what the application decides where its edits
// and the server's disagree (Rule).
//
// What goes out: what the user has, by key and by range (Replica.Get,
// Replica.Entries), edits of this device included before the server knows of
// them; of each edit what became of it (Edit); and what could not be done as it was
// meant (Replica.Cases).
//
// What it promises:
//
//   - What Update has returned for is on the disk, whole, and survives a crash at
//     any instant, as far as the Store is durable.
//   - An edit takes effect on the server once or not at all, whatever is sent
//     again: a push is written to the store, whole, before its first byte leaves,
//     and goes out in the same words until there is a verdict on it.
//   - A put or delete that was made without having seen what stands on the server
//     now does not overwrite it, unless a Rule says so: the edit is in conflict,
//     and a Resolver decides with base, local and server values in hand.
//   - No edit goes silently: what was withdrawn, changed, parked or refused stays
//     listed, with its values, until the application acknowledges it.
//   - Run keeps the two in sync for as long as it is let, and Statuses says how they
//     get on.
//   - What is read is a state that the server had, whole, overlaid with the edits
//     that it has not decided or that have not come back yet.
//
// What it refuses to do: belong to a second user or server. A store that meets
// either says so (ErrOtherUser, ErrOtherServer) and changes nothing. Data on the
// device's disk is not encrypted.
//
// A Replica may be used by many goroutines at once. It has none of its own: what a
// call has started has ended when it returns, but after ErrStoreFailed.
package replica
