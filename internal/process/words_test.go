package process_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/dalvdb/dalvdb/events"
)

// What callers write.

// countAll counts the accepted writes of a user.
const countAll = events.Key("n/all")

// traces are what every write leaves: one more in the user's count, and its
// number at the end of its writer's list, so that a write that is missing,
// stands twice or came too late is seen without any model. A list ends at 50
// values and another one begins.
func traces(writer string, number int) []events.Op {
	return []events.Op{
		events.Increment(countAll, 1),
		events.Add(traceKey(writer, number), events.Number(int64(number))),
	}
}

const traceLength = 50

func traceKey(writer string, number int) events.Key {
	return events.Key(fmt.Sprintf("trace/%s/%06d", writer, number/traceLength))
}

// sharedKey is one of a few keys that everybody puts and deletes with guards.
func sharedKey(rng *rand.Rand) events.Key { return events.Key(fmt.Sprintf("shared/%d", rng.IntN(8))) }

// words are ops that need no guard.
func words(rng *rand.Rand) (ops []events.Op) {
	for range rng.IntN(3) {
		list := events.Key(fmt.Sprintf("list/%d", rng.IntN(3)))
		v := events.Text(fmt.Sprintf("word %d", rng.IntN(20)))
		switch rng.IntN(6) {
		case 0:
			ops = append(ops, events.Remove(list, v))
		case 1:
			ops = append(ops, events.Op{Kind: events.OpAdd, Key: list, Value: v, KeepLast: 8, MoveToEnd: true})
		case 2:
			ops = append(ops, events.Delete(list))
		case 3: // refused where the key holds text
			if rng.IntN(8) == 0 {
				ops = append(ops, events.Increment(sharedKey(rng), 1))
			}
		default:
			ops = append(ops, events.Add(list, v))
		}
	}
	return ops
}

func anyValue(rng *rand.Rand) events.Value {
	switch rng.IntN(40) {
	case 0:
		return events.Data([]byte(strings.Repeat("\x00\xff", rng.IntN(8<<10))))
	case 1:
		return events.Number(rng.Int64())
	case 2:
		return events.JSON(fmt.Sprintf(`{"n": %d}`, rng.IntN(100)))
	}
	return events.Text(fmt.Sprintf("text %d", rng.IntN(1000)))
}

func guarded(guards []events.Guard, k events.Key) bool {
	return slices.ContainsFunc(guards, func(g events.Guard) bool { return g.Key == k })
}

// newID returns an id that is not used otherwise.
func newID[T ~[16]byte](rng *rand.Rand) (id T) {
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	id[0] |= 1 // not all zero
	return id
}
