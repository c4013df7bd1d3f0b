// Package eventstest is the contract of events.Log as tests: every
// implementation passes Run, and so keeps what the fold, the readers and the
// writers rely on.
//
// What comes in: a Factory, which makes fresh logs of one implementation, and
// can open one again if that implementation keeps anything. What goes out:
// subtests, each named for the promise that it checks.
//
// What it promises: it asks for nothing beyond the contract. Offsets may have
// gaps, a log may or may not have to be begun, records may carry leader epochs.
// A log that has to be begun says so by a method Begin(context.Context) error.
// Each subtest closes the logs that it made, and leaves no goroutine.
//
// What it refuses to do: judge durability. A suite in the same process cannot
// pull the plug; the implementations' own crash tests do.
//
// Only test files import this package.
package eventstest
