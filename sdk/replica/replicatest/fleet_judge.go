package replicatest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dalvdb/dalvdb/events"
)

// lost looks for an edit that is lost, and tells about it; "" if there is none.
func (w *fleet) lost(held map[events.Key][]events.Value) string {
	for _, m := range w.made {
		if m.fate != accepted {
			continue
		}
		for i := range m.asks {
			for j := range m.asks[i].wishes {
				wish := &m.asks[i].wishes[j]
				if !wish.granted(held[wish.key]) && !w.opposed(m, wish) {
					return w.lostText(m, wish, held[wish.key])
				}
			}
		}
	}
	for _, k := range w.countedKeys() {
		if text := w.miscounted(k, held[k]); text != "" {
			return text
		}
	}
	return ""
}

// opposed reports whether somebody asked for something else than an edit wished, and
// the edit was not made in sight of that.
func (w *fleet) opposed(m *made, wish *wish) bool {
	for _, x := range w.made {
		if x == m || x.fate != accepted {
			continue
		}
		if surely, _ := m.saw(x); surely {
			continue
		}
		if slices.ContainsFunc(x.asks, func(a ask) bool { return a.key == wish.key && a.against(wish) }) {
			return true
		}
	}
	return false
}

// lostText tells which wish was lost, and where it went.
func (w *fleet) lostText(m *made, wish *wish, vs []events.Value) string {
	text := fmt.Sprintf("%v asked %v.\nIn the end %q is %s, and nothing that anybody did besides asks for that.", m, wish, wish.key, valuesText(vs))
	return text + w.story.whereItWent(m, wish)
}

// countedKeys returns the keys that somebody has incremented and nobody has made
// anything but a number of, in order.
func (w *fleet) countedKeys() []events.Key {
	counted, other := make(map[events.Key]bool), make(map[events.Key]bool)
	for _, m := range w.made {
		if m.fate != accepted {
			continue
		}
		for i := range m.asks {
			a := &m.asks[i]
			counted[a.key] = counted[a.key] || slices.ContainsFunc(a.wishes, func(x wish) bool { return x.kind == grows })
			other[a.key] = other[a.key] || len(a.made) > 1 || len(a.made) == 1 && a.made[0].Kind() != events.ValueNumber
		}
	}
	maps.DeleteFunc(counted, func(k events.Key, yes bool) bool { return !yes || other[k] })
	return slices.Sorted(maps.Keys(counted))
}

// miscounted holds a number against what was counted: some put or delete of the key,
// or its absence in the beginning, and on top of it each increment but those that a
// put or delete was made in sight of.
func (w *fleet) miscounted(k events.Key, vs []events.Value) string {
	var puts, increments []*made
	for _, m := range w.made {
		i := slices.IndexFunc(m.asks, func(a ask) bool { return a.key == k })
		switch {
		case i < 0 || m.fate != accepted:
		case m.asks[i].whole:
			puts = append(puts, m)
		default:
			increments = append(increments, m)
		}
	}
	if len(vs) > 1 || len(vs) == 1 && vs[0].Kind() != events.ValueNumber {
		return fmt.Sprintf("everybody has counted with %q, and in the end it is %s", k, valuesText(vs))
	}
	now := number(vs)
	if len(puts) == 0 && total(increments, k) == now {
		return ""
	}
	for _, p := range puts {
		if counted(p, puts, increments, k)[now] {
			return ""
		}
	}
	text := fmt.Sprintf("everybody has counted with %q, and in the end it is %d.", k, now)
	if len(puts) == 0 {
		text += fmt.Sprintf(" What was counted comes to %d:", total(increments, k))
	} else {
		text += " No put, with the increments that it did not see, comes to that:"
	}
	for _, m := range w.made {
		if slices.Contains(increments, m) || slices.Contains(puts, m) {
			text += fmt.Sprintf("\n  %v: %s", m, opsText(m.ops))
		}
	}
	return text
}

// counted returns what a number may be that was last put by p.
func counted(p *made, puts, increments []*made, k events.Key) map[int64]bool {
	sum := number(p.askAbout(k).made)
	var maybe []int64
	for _, m := range increments {
		by := total([]*made{m}, k)
		surely, perhaps := p.replaced(m)
		if surely {
			continue
		}
		perhaps = perhaps || slices.ContainsFunc(puts, func(q *made) bool {
			_, perhaps := q.replaced(m)
			return perhaps
		})
		if perhaps {
			maybe = append(maybe, by)
		} else {
			sum += by
		}
	}
	sums := map[int64]bool{sum: true}
	for _, by := range maybe {
		for s := range maps.Clone(sums) {
			sums[s+by] = true
		}
	}
	return sums
}

// replaced reports whether a put or delete has rightly replaced what an increment had
// made: one that it was made in sight of, or, unless it was in conflict, one before it
// in the log. For guards hold by values: others may have counted up and down again.
func (m *made) replaced(x *made) (surely, perhaps bool) {
	surely, perhaps = m.saw(x)
	if x.device == m.device || m.changed {
		return surely, perhaps
	}
	return surely || x.to <= m.from, perhaps || x.from < m.to
}

// total is what edits increment a number by.
func total(all []*made, k events.Key) (sum int64) {
	for _, m := range all {
		for _, x := range m.askAbout(k).wishes {
			sum += x.by
		}
	}
	return sum
}

func (m *made) askAbout(k events.Key) *ask {
	return &m.asks[slices.IndexFunc(m.asks, func(a ask) bool { return a.key == k })]
}

// number is what a key holds that counts; none is 0.
func number(vs []events.Value) int64 {
	if len(vs) == 0 {
		return 0
	}
	return vs[0].Number()
}
