//go:build !planted_log_id_kept

package pebblelog

// logIDKept is a bug that the tests must find where it is built in: a directory
// that is put back goes on under the log id it had.
const logIDKept = false
