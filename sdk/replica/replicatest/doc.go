// Package replicatest is for tests of replicas, and of applications that have one.
//
// What comes in: a test, for TestStore a way to open a store, and for Fleet an
// application's merge rules and edits.
//
// What goes out: a whole server in the process of the test (NewServer), with
// replicas and services that speak to it, and whose network can be taken away; what
// every store of a replica must keep, as subtests named for promises (TestStore); and
// what merge rules lose, on simulated devices that go offline, crash and come back, as
// the shortest history that shows it (Fleet).
//
// What it promises: all of the server but its log is what "dalvdb serve" runs, and
// nothing of it is left when the test has ended.
//
// What it refuses to do: be imported by anything but tests.
package replicatest
