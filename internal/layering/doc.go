// Package layering holds the tests that keep the tree in the shape its design
// gives it. It has no code of its own.
//
// In comes the source of every package of the module, all build tags included.
// Out comes a failure for each import that the table in table_test.go does not
// allow, and for each line of the fold that could make two nodes disagree: a
// clock, a lock, a map's order, a float.
//
// It promises that a new edge between two packages is a change to that table,
// and so is seen in review, and that no package goes without a row.
//
// It refuses to judge tests, which may import anything, and planted bugs, which
// are there to be wrong.
package layering
