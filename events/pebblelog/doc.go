// Package pebblelog is the embedded log: all partitions in one Pebble database,
// for a server on one machine.
//
// What comes in: a directory, records by Append, and from outside the clock, the
// randomness and what ends the process. What goes out: an events.Log, figures
// about it (Stats), and copies of it taken while it runs (Backup).
//
// What it promises. Durability: Append returns nil only after fsync, and no
// reader sees a record before. Order: offsets have no gaps. All partitions share
// one group commit: a single goroutine writes what all callers have brought
// meanwhile as one batch, with one fsync. The log begins with a genesis in each
// partition, written at once, and after every Begin with an epoch in each.
// Records of some seconds are in memory, so that readers at the end do not go to
// the store; reads never hold up the commit; a waiting reader costs no
// goroutine. One process per directory: a second one is told who holds it
// (InUseError). While less than Options.DiskFreeMin is free, Append refuses and
// reads go on. A backup holds every record that was acknowledged before it began,
// and of each partition a prefix; a directory unpacked from a part of a backup
// does not open.
//
// What it refuses to do. It does not go on after an error of a write or an
// fsync: what the disk then holds is not known, and an fsync that is tried again
// may say yes to pages that the kernel has dropped. The process exits, and the
// next start sees what is there. It does not repair: damage is events.ErrCorrupt,
// and what is there stays as it is.
// One kind it cannot see: after a kill or a power cut, damage in the last blocks
// of 32 KiB of the write-ahead log, or the loss of a whole file of it, looks like
// writes that never were, and the history ends before it; the state, which has
// applied more, finds that out. A log that was closed has nothing there. It
// forgets nothing, and does not look into records but for genesis.
//
// Files of the directory: those of Pebble; HOLDER, who has the directory open;
// BACKUP, what the backup that the directory was unpacked from must hold, and
// RESTORING, the same while the first open checks it; backup-*, a backup being
// taken.
package pebblelog
