//go:build planted_log_id_kept

package pebblelog

// A planted bug, to see that the tests find it.
const logIDKept = true
