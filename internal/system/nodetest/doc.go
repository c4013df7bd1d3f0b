// Package nodetest is a whole node in one process, for tests: the embedded log and
// the state on a disk in memory, fold, ingest and edge, served on loopback. The log
// can be on Kafka instead, on fake brokers in the process or on real ones.
//
// What comes in: Options, and what a test does to the node: stop it, cut its
// power, drop its state, put an older copy of its disk in place, start it again.
//
// What goes out: clients of both ports over every protocol, a Device that keeps
// what it is told and no more, and a Lossy network between them.
//
// What it promises: the wiring is that of the command, in its order. A power
// cut is clean: what a client has read of an answer was sent before the moment
// in which the disk is left as it is. Clients find the node again after a
// restart, though its ports are other ones. After the test nothing runs.
//
// What it refuses to do: judge. What an answer ought to have been is for the
// tests that import it.
package nodetest
