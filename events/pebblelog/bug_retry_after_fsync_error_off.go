//go:build !planted_retry_after_fsync_error

package pebblelog

// retryAfterFsyncError is a bug that the tests must find where it is built in.
const retryAfterFsyncError = false
