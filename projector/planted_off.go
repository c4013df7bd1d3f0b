//go:build !planted

package projector

// Each of these names a fault that a server like this one can have. Built with
// the tag "planted", the one that DALVDB_PLANTED names is in, and a test must
// find it; without the tag they are constants and cost nothing.
const (
	plantDedupeWithoutDigest = false // a retry is told by its name alone
	plantRowPresence         = false // a request is known as long as its row is stored
	plantRecreationNoPut     = false // a key that comes to be does not count as put
	plantAckBeforeApply      = false // a verdict is told before its effect can be read
	plantOffsetApart         = false // the applied offset is written after the effects
	plantNoCheckAtOffset     = false // whatever stands at the offset is taken for ours
	plantBookmarkEarly       = false // a watcher is told a position before its changes
	plantEventSplit          = false // an event comes to watchers in two parts
	plantStrongWithoutTail   = false // a strong read answers from what is there
	plantStrongByTail        = false // a strong read believes whoever says where the log ends
	plantWatchAfterRead      = false // a watcher registers after it has read
	plantSendsHoldFold       = false // the fold waits for whoever is being sent something
	plantMapOrder            = false // the fold walks a map
	plantDeltaMidway         = false // a delta in parts gives its position with every part
	plantConfigInFold        = false // the fold takes the domains from the binary, not from the log
	plantTailAsHistory       = false // a guard is compared by its offset, whatever its log id
	plantStateUnchecked      = false // a state goes on from any log
	plantBelowHorizon        = false // a delta is given although deletions have been forgotten
	plantPeekLists           = false // a look ahead lists guards that may yet hold
	plantPatchUnlessPresent  = false // a patch leaves out what the reader has, and so does not move it
)
