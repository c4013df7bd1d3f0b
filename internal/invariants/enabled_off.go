//go:build !invariants

package invariants

// Enabled tells whether a broken assertion panics. It is set by the build tag
// invariants.
const Enabled = false
