// Package feed writes every accepted event to a topic of Kafka, <prefix>.changes,
// for consumers of any kind.
//
// What comes in: the accepted events of each partition, in order, from a
// projector; where they are written, and as what (Config.Encode).
//
// What goes out: a record for each event, in the partition of the topic that has
// the number of the event's partition in the log; and now and then, by the group
// that is called as the topic, a commit of how far the log has been fed: the offset
// behind the position, of the log's topic, with the log id as its metadata. So the
// lag of the group, as any tool of Kafka tells it, is that of the feed.
//
// What it promises. Every accepted event is in the topic at least once, and in
// order: of the records of one partition that have the same log id, drop what is
// not greater than the greatest offset so far, and what is left is each event once.
// To that end one batch of a partition is under way at a time. When it fails, or
// the process starts, the partition begins anew, after the greater of the last
// record there and what was committed (projector.Resume says what counts), and not
// after what has not been acknowledged if the process knows that. All
// events before a record in the topic have come into it before, so that the last
// one says it all, whether or not it was acknowledged; the commit is for when there
// is none, because the topic keeps its records for a time only, and is never ahead
// of what was acknowledged. A batch that a broker writes late, when it had been
// given up, doubles records and leaves out none: it begins behind what had been
// acknowledged before it.
//
// Where neither is known, it begins with the newest epoch: of a log that was copied
// to Kafka, what was accepted before is not fed, nor is what no feed ever began with
// before an operator accepted a loss.
//
// A partition that has halted feeds nothing more. All that the brokers can do wrong
// is waited out, told once in the log and counted: no end of it ends the feed, and
// nobody else waits for it. A slow broker holds back the reading, and what is in
// memory is bounded.
//
// What it refuses to do: make or change topics; write to one that has another
// count of partitions than the log, where nobody would find what they look for;
// know the schema of what it writes.
package feed
