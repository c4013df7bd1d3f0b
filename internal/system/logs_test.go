package system_test

import (
	"testing"

	"github.com/dalvdb/dalvdb/internal/system/nodetest"
)

// onEachLog runs a test of a node whose promises do not depend on where its log is
// on each of them. What is left to one of them is about its own faults: a disk that
// loses what was not synced, or a copy of a directory put in place.
func onEachLog(t *testing.T, test func(*testing.T, nodetest.Logs)) {
	t.Run("embedded", func(t *testing.T) { test(t, nodetest.Embedded) })
	t.Run("kafka", func(t *testing.T) { test(t, nodetest.Kafka) })
}
