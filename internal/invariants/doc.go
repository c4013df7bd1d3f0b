// Package invariants is the one helper for errors of the programmer.
//
// In comes a condition that cannot be false unless this code is wrong: an
// offset that went backwards, a batch applied twice, a lock that should be held.
// What a client, a log or a disk can cause is no such condition; it has its own
// error or verdict.
//
// Out comes nil, or, when the condition is false, a panic in builds with the tag
// invariants (all tests of `make test`) and an error that wraps [ErrInvariant] in
// any other build. So tests stop at the first broken assertion, at the place of
// it, while a server in production answers with an error and stays up.
//
// It promises no more than that, and costs little: where even the making of the
// arguments is too much, as in the fold, the caller compares and calls [Broken].
// A check that is itself expensive stands behind [Enabled], which is a constant,
// so that production does not contain it:
//
//	if err := invariants.Assert(next > applied, "next %d <= applied %d", next, applied); err != nil {
//		return err
//	}
//	if next <= applied { // the same in a hot loop
//		return invariants.Broken("next %d <= applied %d", next, applied)
//	}
//	if invariants.Enabled {
//		if err := checkHashes(state); err != nil {
//			return err
//		}
//	}
//
// It refuses to log, to count and to recover: the error goes up like any other.
// It imports nothing of ours, so every package may import it.
package invariants
