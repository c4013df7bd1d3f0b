// Package pubsub is a Watermill Publisher and Subscriber on Kafka, or what speaks
// its protocol, by way of franz-go. It knows nothing of the log of DalvDB and
// serves any program that uses Watermill.
//
// What comes in: Watermill messages and the topic they go to; addresses of
// brokers and the name of a consumer group. A message is a record: the payload is
// the value, metadata are headers, the UUID is the header UUIDHeader (the name
// that Watermill's own Kafka Pub/Sub gives it), or, of what others produce, the id of
// CloudEvents or else the place; and the key, which decides the partition, is what
// PublisherConfig.Key says.
//
// What goes out: for every topic subscribed to a channel of messages, whose
// contexts tell the place of their record (PlaceOf) and carry the trace that the
// publisher was in; and how far the group is behind (Subscriber.Lag, LagCollector).
//
// What it promises. Publish has returned nil only when every in-sync replica has
// every message. A subscriber hands out the messages of a partition in order, one
// at a time: the next one follows when this one was acked, the same one again
// when it was nacked. Partitions do not wait for each other. Only what was acked
// is ever committed, so with a group every message is acked at least once,
// whichever subscriber joins, leaves or dies in between, and whoever has one in
// hand whose partition went to another subscriber is told by the end of the
// message's context, with the cause ErrRevoked; an ack that comes later has no
// effect. Close returns when all that was acked is committed, and all goroutines
// have ended.
//
// What it refuses to do: exactly once. A message comes again when its ack was not
// committed before a crash (CommitInterval bounds how many do), when its partition
// moved while it was in hand, and when Publish returned an error although the
// brokers had it. PlaceOf is what a receiver tells such copies by, or the UUID. It
// neither retries nor parks what cannot be handled: that is the router's middleware.
package pubsub
