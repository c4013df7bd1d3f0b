// Package connectapi is the edge: it speaks dalvdb.v1 with devices and backends.
//
// What comes in: requests over Connect, gRPC and gRPC-Web, on HTTP/1.1 and
// HTTP/2, with or without TLS, each with a token; on the backend port also
// probes, metrics and the request for a backup.
//
// What goes out: events to package ingest (Submitter), questions to package
// projector (State), and their answers to those who asked. Every answer has the
// position it is true at. Errors are those of errors.go, with details.
//
// What it promises: nothing of a request is decoded before its token has been
// verified; a device meets its own user's data only, and no answer to it names
// a private key; a field this server does not know is an error where it could
// change what a write means; no request, reader or connection takes more than
// its limits (limits.go) allow, and who is refused for a limit learns which, and
// whether to come back. Streams end when their token does. After Drain no stream
// is left, so that a server can stop.
//
// What it refuses to do: decide. It keeps nothing between two requests but
// verified tokens, writes to no log, and does not retry.
package connectapi
