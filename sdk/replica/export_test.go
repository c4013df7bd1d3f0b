package replica

import "github.com/cockroachdb/pebble/v2/vfs"

// OpenStoreOn is OpenStore on another file system.
func OpenStoreOn(dir string, on vfs.FS) (Store, error) { return openDiskStore(dir, on) }
