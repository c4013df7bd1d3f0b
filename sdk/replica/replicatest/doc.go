// Package replicatest holds what every store of a replica must keep.
//
// What comes in: a way to open a store. What goes out: subtests named for
// promises. It is imported by tests only.
package replicatest
