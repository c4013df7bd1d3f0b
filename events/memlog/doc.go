// Package memlog is a log in memory, for tests, examples and demonstrations,
// and the model that the other logs are compared with.
//
// What comes in: the number of partitions, the first domain rules, and from
// outside the clock and the randomness. What goes out: an events.Log.
//
// What it promises: everything that events.Log does, but for durability: what
// was acknowledged is kept as long as the Log, and never longer. Offsets have no
// gaps. Each partition begins with its genesis; after Begin an epoch follows.
// Append takes a copy. A waiting reader costs no goroutine, and Append never
// waits for one. The log has no goroutine of its own.
//
// What it refuses to do: forget. It grows with every record, so it is no place
// for a server that runs for long.
package memlog
