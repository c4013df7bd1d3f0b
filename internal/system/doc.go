// Package system has the tests of a whole node: log, fold, ingest, edge and Go
// client together, in one process (package nodetest), as devices and backends
// meet them.
//
// What comes in: requests over loopback, and what befalls a node. What goes
// out: nothing; there is no code here but tests.
//
// What they show: the stories of a user's data (story_test.go), faults that
// systems of this kind have had (faults_test.go), every limit through the API
// (limits_test.go), every protocol (protocols_test.go), random runs whose
// answers are all compared with a naive replay of the log (random_test.go), and
// what idle streams cost (streams_test.go).
//
// What they leave to others: the process, its flags and its real disk.
package system
