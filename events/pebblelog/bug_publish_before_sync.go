//go:build planted_publish_before_sync

package pebblelog

// A planted bug, to see that the tests find it.
const publishBeforeSync = true
