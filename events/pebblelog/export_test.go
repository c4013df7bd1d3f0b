package pebblelog

// WithSmallMemTables makes the store flush and compact after little, so that
// tests meet both.
func WithSmallMemTables(o Options) Options {
	o.memTableBytes = 256 << 10
	return o
}
