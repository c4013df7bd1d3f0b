//go:build planted

package projector

import "os"

var (
	planted = os.Getenv("DALVDB_PLANTED")

	plantDedupeWithoutDigest = planted == "dedupe-without-digest"
	plantRowPresence         = planted == "row-presence"
	plantRecreationNoPut     = planted == "recreation-no-put"
	plantAckBeforeApply      = planted == "ack-before-apply"
	plantOffsetApart         = planted == "offset-apart"
	plantNoCheckAtOffset     = planted == "no-check-at-offset"
	plantBookmarkEarly       = planted == "bookmark-early"
	plantEventSplit          = planted == "event-split"
	plantStrongWithoutTail   = planted == "strong-without-tail"
	plantStrongByTail        = planted == "strong-by-tail"
	plantWatchAfterRead      = planted == "watch-after-read"
	plantSendsHoldFold       = planted == "sends-hold-fold"
	plantMapOrder            = planted == "map-order"
	plantDeltaMidway         = planted == "delta-midway"
	plantConfigInFold        = planted == "config-in-fold"
	plantTailAsHistory       = planted == "tail-as-history"
	plantStateUnchecked      = planted == "state-unchecked"
	plantBelowHorizon        = planted == "below-horizon"
	plantPeekLists           = planted == "peek-lists"
	plantPatchUnlessPresent  = planted == "patch-unless-present"
)
