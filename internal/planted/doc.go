// Package planted holds the test of the tests: faults that a server like this
// one can have are built in, one at a time, and a test has to fail.
//
// In comes the table of faults in planted_test.go: where each is planted, under
// which build tag and name, and which tests must find it. Out comes a failure
// for each fault that goes unnoticed, for each of those tests that fails without
// any fault, for each switch in the code that the table does not have, and for a
// list in docs/guarantees.md that is not the table's.
//
// It promises nothing about faults that nobody thought of.
package planted
