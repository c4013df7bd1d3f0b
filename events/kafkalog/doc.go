// Package kafkalog is the log on Apache Kafka, or on what speaks its protocol:
// for a service on many machines, and for one whose acknowledged writes must
// outlive any single one of them.
//
// What comes in: addresses of brokers, a topic that Init made, records by Append.
// What goes out: an events.Log, and a word about the topic when its settings would
// not keep what was acknowledged (Check).
//
// One topic holds the log. The user id is the key of a record, the bytes of the
// record are its value, and the partition is the one that the caller names: the
// count of partitions is what the genesis says, never what the topic has. Whoever
// opens a topic whose partitions are empty writes a genesis into each, and then
// reads what stands at offset 0, which is the genesis, be it its own or that of
// another node which was faster: a genesis anywhere else says nothing.
//
// What it promises. Durability: Append returns nil once all in-sync replicas have
// the record, and no reader sees a record before. A record that is sent again by
// the client stands once, by its sequence number; one whose acknowledgement was
// lost together with the process stands twice if the caller sends it again, which
// is for the fold to see. Order: offsets grow and may have gaps. Stored.LeaderEpoch
// is set. A start goes on with the history: Begin writes no epoch. One is written
// by BeginEpoch, after a copy, and after an operator accepted a loss.
//
// Copy moves another log into an empty topic, record by record at the same offsets.
// Its records carry a header, by which Open knows one that has not come to its end,
// and refuses it: ErrCopying.
//
// Loss: a reader that finds the log shorter than it was, or begun later, or made
// anew, ends with events.ErrCorrupt, and so does everything else of that partition
// until the log is opened again. What the brokers are asked is asked of the leader
// of the newest leader epoch that anybody here has heard of, so that one who was
// deposed is not taken for a loss.
//
// Tail asks the leader. One that has been deposed and does not know it yet, while
// nobody here has heard of its successor, may answer from before. Who must not be
// told an old tail by it asks for a Barrier: a control record, which only who leads
// can acknowledge. Those who ask share them, at most one in 5 ms of a partition, and
// where this process writes records anyway it needs none of its own.
//
// Readers at the end share one client, which has one connection to each broker
// however many partitions there are, and costs no goroutine per reader. It follows
// a partition while somebody waits for its next record, and the newest records are
// in memory; who is behind those reads from the leader at its own pace.
//
// What it refuses to do. It opens no topic that would forget or lose records
// (ErrTopic), and appends to none that came to be so while it was open; one that is
// only read (Options.ReadOnly) it opens as it is, and makes none. It makes
// no topics, but for Init; it commits no offsets, joins no group, uses no
// transaction, and reads from no follower. It does not say that a record is
// certainly not in the log once the client has it: an answer that came last does
// not tell what became of an attempt before it.
package kafkalog
