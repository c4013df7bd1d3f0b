// Package simulation is a whole system without a network, a disk or a clock: a
// server, devices and what goes wrong between them, in the goroutine of the
// caller.
//
// What comes in: what is to happen, step by step, and when.
//
// What goes out: a Node, which is all of a server but its log (that is in memory),
// reached by calls instead of connections; a Link, over which a device speaks to it
// and on which requests and answers are lost, cut and late; a Store, which a device
// crashes at; and copies of either's data, as backups have them. Applied says what
// an op makes of values.
//
// What it promises: nothing happens but by a call, so that the same calls come to
// the same, names that are random apart. Timers of the system are real, and do not
// fire: nothing here takes long.
//
// What it refuses to do: be fast for its own sake. What is called is what ships.
package simulation
