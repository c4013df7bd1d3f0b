package pebblelog

// WithSmallMemTables makes the store flush and compact after little, so that
// tests meet both.
func WithSmallMemTables(o Options) Options { return WithMemTables(o, 256<<10) }

// WithMemTables makes them of another size, and with them the files of the
// write-ahead log.
func WithMemTables(o Options, bytes uint64) Options {
	o.memTableBytes = bytes
	return o
}

// FilesUsedBefore returns how many files of the write-ahead log the store keeps to
// write over.
func (l *Log) FilesUsedBefore() int64 { return l.db.Metrics().WAL.ObsoleteFiles }
