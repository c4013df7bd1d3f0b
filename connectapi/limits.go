package connectapi

import "time"

// The limits of streams. A stream is a Watch, Snapshot or History under way, a
// Sync that is held, or a backup.
const (
	// StreamsMax is how many streams a node serves by default: at some 35 KB each
	// for an idle one, 1.7 GB.
	StreamsMax = 50_000

	// StreamsPerUserMax leaves a user many devices at a time and many tabs, and
	// keeps one account from taking the node's streams.
	StreamsPerUserMax = 64

	// StreamsPerServiceMax leaves a service many processes that watch.
	StreamsPerServiceMax = 1_000

	// streamsPublicMax bounds the streams of those without a token: somebody looks
	// at the schema.
	streamsPublicMax = 64

	// StreamsPerConnectionMax is below RequestsPerConnectionMax, so that requests
	// still pass on a connection that is full of streams.
	StreamsPerConnectionMax = 200

	// streamsRetryAfter is what a client is asked to wait when it meets one of
	// these limits.
	streamsRetryAfter = 5 * time.Second
)

// The limits of time.
const (
	// ReadTimeout is how long by default a request waits for the state it asks
	// for, and a stream for its first message: longer than a failover.
	ReadTimeout = 10 * time.Second

	// SlowReaderMax is how long by default a message may take to send. A reader
	// of 35 KB/s takes the largest usual part in that time.
	SlowReaderMax = 30 * time.Second

	// slowReaderRetryAfter is what a reader that was cut off is asked to wait.
	slowReaderRetryAfter = time.Second

	// bodyTimeout bounds how long a client takes to send a request it has begun:
	// net/http bounds the header only.
	bodyTimeout = 30 * time.Second

	// bodyRestTimeout bounds how long of that the rest of a body is waited for
	// that nobody wants any more: the request is answered already.
	bodyRestTimeout = 5 * time.Second

	// answerTimeout bounds a request that is no stream, from its header to the last
	// byte of its answer that the client takes: its body, the states it waits for
	// and its verdict are a minute at most, being held another, and the third is
	// for a reader of 100 KB/s.
	answerTimeout = 3 * time.Minute

	// noContactRetryAfter is what a client is asked to wait whose stream has ended
	// because the node does not reach its log. All come back then.
	noContactRetryAfter = 5 * time.Second

	// diskFullRetryAfter is what a writer is asked to wait when the disk is full.
	diskFullRetryAfter = 30 * time.Second
)

// The limits of work and size.
const (
	// RequestsPerConnectionMax bounds the calls at a time on one HTTP/2
	// connection.
	RequestsPerConnectionMax = 250

	// bodySlack is what a body may be larger than the message in it: the
	// envelope of streaming protocols.
	bodySlack = 1 << 10

	// compressMin is the size from which an answer is compressed; below it the
	// header of gzip and the work cost more than is won.
	compressMin = 1 << 10

	// conflictBytesMax bounds what explains the conflicts in one answer, whether to
	// one update or to many: who changed the keys of failed guards, and what stands
	// there. Conflicts beyond it are told by version only, so that the largest
	// answer is one that our clients read.
	conflictBytesMax = 4 << 20

	// writerTimeBytes and valueOverhead are what is around the texts of a writer,
	// with the time and the message they are in, and around a value.
	writerTimeBytes = 48
	valueOverhead   = 12

	// updateManyWorkers is how many users UpdateMany writes to at a time: enough
	// to share one sync of the log among them.
	updateManyWorkers = 64

	// watchFiltersMax bounds the keys, and the prefixes, of one Watch, each of
	// which is looked at for every change.
	watchFiltersMax = 1_000

	// backupsMax bounds the backups at a time, each of which reads the whole log.
	backupsMax = 1
)

// The limits of connections.
const (
	// headerTimeout and idleTimeout end connections that do nothing.
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute

	// headerBytesMax leaves room for a token of 8 KiB and what proxies add.
	headerBytesMax = 16 << 10

	// pingAfter and pingTimeout find peers that have gone without a word, whose
	// streams would otherwise stay open for ever.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second

	// receiveBytesMax bounds what a connection may have sent that is not read
	// yet, and receiveStreamBytesMax one request of it.
	receiveBytesMax       = 1 << 20
	receiveStreamBytesMax = 256 << 10
)
