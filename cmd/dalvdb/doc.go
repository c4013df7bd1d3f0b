// Command dalvdb is the server and the shell of DalvDB.
//
// What comes in: arguments, DALVDB_* environment variables and a configuration
// file, in this order of precedence (config.go).
//
// What goes out: "serve" wires the log, the projector, ingest and the API into
// a node and runs it (serve.go, run.go). The other verbs speak to a node through
// package sdk/backend, or look after a data directory. Data is written to
// standard output, as a table or as JSON in the API's own form; everything for
// people goes to standard error. The exit code says what became of it (exit.go).
//
// What it promises: a write that was not answered prints the command that asks
// again under the same name, so that repeating it by hand is as safe as a retry
// by a program. A node stops in the order that run.go lists.
//
// What it refuses to do: decide anything. There is one file for each verb, and
// nothing here that another program would need.
package main
