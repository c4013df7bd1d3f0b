// Package kafkatest gives a test real brokers.
//
// In comes a test and a number of brokers. Out comes a running kafka.Cluster, in a
// directory that goes with the test.
//
// It promises that nothing runs on when the test has ended, and that the end of
// each broker's log is told when the test has failed.
//
// It refuses to let a whole run pass without Kafka on a machine that cannot run it:
// such a test is skipped in short mode, and fails otherwise unless KAFKA_TESTS=skip
// says that this is known.
package kafkatest
