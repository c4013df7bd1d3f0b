// Package wire translates between the words of package events and the messages
// of dalvdb.v1. It is the only place that knows both.
//
// What comes in: a message, to be decoded, or a value of package events, to be
// encoded. The edge decodes requests and encodes answers, clients the other way
// round, so that both ends stand on one translation.
//
// What goes out: the same thing in the other words. A message that cannot be
// said in the words of package events is an *events.InvalidError that names
// its field from the root of the request, as the API names it, and never
// repeats a value.
//
// What it promises: decoding what was encoded gives back what went in, and
// decoding never panics, whatever the message. The decoder of ops, guards and
// meta never fails: an op without a kind, a value of none, a negative version
// reach package ingest as they are, because what is wrong inside an event is a
// verdict and not an error.
//
// What it refuses to do: check limits, look at tokens, or fill in what a
// request leaves out. Messages are not retained, except that strings in them
// may be shared with what was decoded.
package wire
