// Package speed has no code of its own: its benchmarks measure the log, the
// fold and ingest together, without a network, each beside what the machine
// would allow.
//
// In comes a directory on the disk to be measured (TMPDIR). Out come rates, and
// x-limit: the share of the limit that was reached. docs/performance.md says how
// to run them and what they said.
//
// They promise that a thing and its limit are measured in the same run, by turns
// in slices of a second or less, so that whatever else the machine does meets
// both. The limits are programs of their own (limits_test.go) that do as little
// as anything could that keeps the same bytes.
//
// They refuse to judge: no figure makes one fail, because a figure of a machine
// with other things to do says little.
package speed
