package replicatest

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// judged lets a fleet at rest be judged after something has been done to it, and
// returns what is said.
func judged(t *testing.T, do func(w *fleet)) (f *failure) {
	t.Helper()
	cfg := FleetConfig{Edits: []FleetEdit{
		{Name: "go dark", Do: func(_ *rand.Rand, tx *replica.Tx) error {
			replica.Put(tx, "theme", "dark")
			tx.Increment("visits", 1)
			return nil
		}},
	}}
	cfg.fill()
	w := &fleet{cfg: &cfg, met: newCensus()}
	defer func() {
		f, _ = recover().(*failure)
		if err := w.end(); err != nil {
			t.Error(err)
		}
	}()
	w.begin()
	w.step(&step{what: edits})
	w.comeToRest()
	do(w)
	w.judge()
	return nil
}

// No rule can make devices diverge: a replica that did would be at fault. Here one
// shows what it has not sent.
func TestFleetSeesDivergence(t *testing.T) {
	if f := judged(t, func(*fleet) {}); f != nil {
		t.Fatalf("%+v", f)
	}
	f := judged(t, func(w *fleet) {
		_, err := w.devices[1].Update(func(tx *replica.Tx) error { replica.Put(tx, "theme", "light"); return nil })
		w.must(err, "update")
	})
	if f == nil || f.kind != divergence || !strings.Contains(f.text, `"theme" is "light" there, and "dark" on the server`) {
		t.Errorf("got %+v", f)
	}
}

// What everybody has counted with and is no number any more is told, too: no rule can
// do that, for who counts is refused.
func TestFleetSeesANumberThatIsNone(t *testing.T) {
	judged(t, func(w *fleet) {
		if text := w.miscounted("visits", texts("a")); !strings.Contains(text, `in the end it is "a"`) {
			t.Errorf("got %q", text)
		}
		if text := w.lost(map[events.Key][]events.Value{"theme": texts("dark"), "visits": {events.Number(2)}}); !strings.Contains(text, "What was counted comes to 1") {
			t.Errorf("got %q", text)
		}
	})
}

// An edit was made in sight of what stood in the log before what its device showed,
// and of what its device had made before. Where that is not known it is neither sure
// nor out of the question.
func TestMadeInSight(t *testing.T) {
	phone, laptop := new(device), new(device)
	m := &made{device: phone, order: 5, at: 10}
	for _, c := range []struct {
		name            string
		x               made
		surely, perhaps bool
	}{
		{"its own device's, before", made{device: phone, order: 4}, true, true},
		{"its own device's, later", made{device: phone, order: 6}, false, false},
		{"accepted before", made{device: laptop, order: 1, fate: accepted, from: 8, to: 10}, true, true},
		{"accepted later", made{device: laptop, order: 1, fate: accepted, from: 10, to: 11}, false, false},
		{"accepted somewhere there", made{device: laptop, order: 1, fate: accepted, from: 8, to: 12}, false, true},
		{"made later", made{device: laptop, order: 9, fate: accepted, from: 8, to: 10}, false, false},
	} {
		if surely, perhaps := m.saw(&c.x); surely != c.surely || perhaps != c.perhaps {
			t.Errorf("%s: surely %v, perhaps %v", c.name, surely, perhaps)
		}
	}
}

// A put that was in conflict with nothing has replaced what it found, although it may
// not have seen what that was made of. One that a resolver has let through has not.
func TestReplaced(t *testing.T) {
	phone, laptop := new(device), new(device)
	count := &made{device: laptop, order: 1, at: 0, fate: accepted, from: 4, to: 5}
	for _, c := range []struct {
		name            string
		put             made
		surely, perhaps bool
	}{
		{"found", made{device: phone, order: 2, at: 3, from: 5, to: 6}, true, true},
		{"found perhaps", made{device: phone, order: 2, at: 3, from: 3, to: 6}, false, true},
		{"not found", made{device: phone, order: 2, at: 3, from: 3, to: 4}, false, false},
		{"found in conflict", made{device: phone, order: 2, at: 3, from: 5, to: 6, changed: true}, false, false},
		{"seen, and in conflict", made{device: phone, order: 2, at: 5, from: 5, to: 6, changed: true}, true, true},
		{"of the same device, later", made{device: laptop, order: 0, at: 3, from: 5, to: 6}, false, false},
	} {
		if surely, perhaps := c.put.replaced(count); surely != c.surely || perhaps != c.perhaps {
			t.Errorf("%s: surely %v, perhaps %v", c.name, surely, perhaps)
		}
	}
}

// Who wrote the old value is no excuse for its coming back, if the edit was made in
// sight of it: so would every lost update be excused.
func TestTheOldValueIsNoExcuse(t *testing.T) {
	phone, laptop := &device{name: "phone"}, &device{name: "laptop"}
	puts := func(d *device, v string, saw string) *made {
		op := events.Put("theme", events.Text(v))
		return &made{device: d, by: "set theme", fate: accepted, ops: []events.Op{op}, asks: []ask{askOf("theme", []events.Op{op}, texts(saw), false)}}
	}
	dark, light := puts(phone, "dark", ""), puts(laptop, "light", "dark")
	dark.from, dark.to, light.order, light.at = 4, 5, 1, 5
	w := &fleet{made: []*made{dark, light}}
	held := map[events.Key][]events.Value{"theme": texts("dark")}
	if got := w.lost(held); !strings.Contains(got, `edit "set theme" of laptop asked that "theme" is "light"`) {
		t.Errorf("got %q", got)
	}
	light.at = 4 // it was made without having seen that
	if got := w.lost(held); got != "" {
		t.Errorf("got %q", got)
	}
	light.at, dark.fate = 4, told // and did not take effect
	if got := w.lost(held); got == "" {
		t.Error("an edit that did not take effect is an excuse")
	}
}
