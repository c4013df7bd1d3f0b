//go:build planted_retry_after_fsync_error

package pebblelog

// A planted bug, to see that the tests find it.
const retryAfterFsyncError = true
