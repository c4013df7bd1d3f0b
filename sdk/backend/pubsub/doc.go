// Package pubsub is a Watermill Subscriber of the changes of all users, for
// services beside a node with the embedded log. It delivers the messages that a
// consumer of the topic <prefix>.changes gets where the log is Kafka, so that a
// component which takes a message.Subscriber is written once.
//
// What comes in: accepted events over BackendService.Watch, and Positions, where
// the service keeps how far it has come.
//
// What goes out: a message for each accepted event. Its payload is a ChangeEvent
// of dalvdb.v1 as Config.Format says (Event decodes it), its metadata are the
// headers that package wire names and, under KeyMetadata, the user.
//
// What it promises:
//
//   - At least once, in order per partition and so per user: the next message of
//     a partition comes when the last one is acknowledged. Different partitions
//     go on side by side.
//   - Ack moves the position, Nack has the message come again after
//     Config.NackPause. A message that was not acknowledged before the end comes
//     again at the next start, and so may some that were: positions are stored
//     soon after an Ack, not before it returns. Seen tells them.
//   - A start goes on from the positions that are stored, without a gap. The
//     positions of the first start are stored before Subscribe returns.
//   - A node that restarts is waited for. A node that was restored to before a
//     stored position, so that it has lost what this service has seen, ends the
//     subscription with events.ErrOtherHistory: from Subscribe, or to
//     Config.OnEnd. Nothing is skipped, and nothing is guessed: the service
//     decides what its own work is worth then, and removes the positions.
//   - A slow handler delays its own partition alone. What is read ahead is
//     bounded, some 1 MiB for each partition, and the stream is not left unread
//     until the node cuts it off: a partition that lags is left out of it, and is
//     read again from where it was once it has caught up.
//
// What it refuses to do: share a topic between processes, as a consumer group
// does; one process subscribes to a topic under the same Positions at a time.
package pubsub
