// Package system has the tests of a whole node: log, fold, ingest, edge and Go
// client together, in one process (package nodetest), as devices and backends
// meet them.
//
// What comes in: requests over loopback, and what befalls a node. What goes
// out: nothing; there is no code here but tests.
//
// What they show: the stories of a user's data (story_test.go), faults that
// systems of this kind have had (faults_test.go), every limit through the API
// and around it (limits_test.go, limits_edge_test.go), every protocol
// (protocols_test.go), deltas in parts (more_test.go), readers that are slow or
// do not read (streams_test.go, stuck_test.go), and random runs whose answers are
// all compared with a naive replay of the log (random_test.go).
//
// What does not depend on where the log is runs on each of them (logs_test.go): the
// embedded one, and Kafka, on fake brokers or, if DALVDB_TEST_KAFKA names them, real
// ones.
//
// A random run is told in files of its own: who calls (random_device_test.go,
// random_clerk_test.go, random_read_test.go, random_feed_test.go), what befalls
// the node (random_fates_test.go), what callers note (random_ledger_test.go), and
// how that is judged (random_judge_test.go, random_order_test.go).
//
// What they leave to others: the process, its flags, and what it costs.
package system
