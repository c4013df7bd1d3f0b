//go:build !planted_publish_before_sync

package pebblelog

// publishBeforeSync is a bug that the tests must find where it is built in.
const publishBeforeSync = false
