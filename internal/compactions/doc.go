// Package compactions keeps a store from compacting while it is opened.
//
// Opening flushes an empty memtable, which begins a compaction where one is due,
// and then waits for it before it looks for files that are left over. Every node
// that was closed has a small table on top that lies across all partitions, so
// that with much data below a start waited for seconds, for tables which it finds
// as well uncompacted.
//
// What comes in: the store, which registers itself, and Begin. What goes out:
// leave to compact.
//
// What it promises: before Begin no compaction runs; after it as many as the store
// allows, as with the store's own scheduler; when the store has been closed,
// nothing of it runs.
//
// What it refuses to do: decide what is compacted.
package compactions
