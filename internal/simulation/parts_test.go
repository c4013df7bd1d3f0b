package simulation_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/simulation"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// echo answers what it is asked, and keeps it.
type echo struct{ asked []string }

func (e *echo) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	e.asked = append(e.asked, string(body))
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("re: " + string(body)))}, nil
}

// What a fault does to a request is what its name says: what arrives, and what its
// sender gets.
func TestLinkFaults(t *testing.T) {
	for _, c := range []struct {
		name     string
		fault    simulation.Fault
		arrives  bool
		answer   string
		err, end error // of the request, and of reading the answer
	}{
		{"none", simulation.NoFault, true, "re: hello", nil, nil},
		{"no network", simulation.NoNetwork, false, "", simulation.ErrDown, nil},
		{"lost request", simulation.LoseRequest, false, "", simulation.ErrLost, nil},
		{"lost answer", simulation.LoseAnswer, true, "", simulation.ErrLost, nil},
		{"cut answer", simulation.CutAnswer, true, "re: h", nil, simulation.ErrLost},
		{"held request", simulation.HoldRequest, false, "", simulation.ErrLost, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := new(echo)
			l := &simulation.Link{Next: next, Fault: func(*http.Request) simulation.Fault { return c.fault }, Cut: func(int) int { return 5 }}
			answer, err, end := say(t, l, "hello")
			if answer != c.answer || !errors.Is(err, c.err) || !errors.Is(end, c.end) || (len(next.asked) == 1) != c.arrives {
				t.Errorf("got %q, %v, %v; arrived: %q", answer, err, end, next.asked)
			}
			held := c.fault == simulation.HoldRequest
			if l.Deliver() != held || held && !slices.Equal(next.asked, []string{"hello"}) {
				t.Errorf("after the delivery there arrived %q", next.asked)
			}
			if l.Deliver() {
				t.Error("it is delivered twice")
			}
		})
	}
}

// A request that is held arrives after later ones, in the order of the held; and not
// at all once the link has forgotten it.
func TestLinkHolds(t *testing.T) {
	next := new(echo)
	fault := simulation.HoldRequest
	l := &simulation.Link{Next: next, Fault: func(*http.Request) simulation.Fault { return fault }}
	for _, text := range []string{"a", "b", "c"} {
		if _, err, _ := say(t, l, text); !errors.Is(err, simulation.ErrLost) {
			t.Fatalf("got %v", err)
		}
	}
	fault = simulation.NoFault
	if _, err, _ := say(t, l, "d"); err != nil {
		t.Fatal(err)
	}
	l.Deliver()
	l.Deliver()
	l.Forget()
	if l.Deliver() || !slices.Equal(next.asked, []string{"d", "a", "b"}) {
		t.Errorf("there arrived %q", next.asked)
	}
}

func say(t *testing.T, l *simulation.Link, text string) (answer string, err, end error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, simulation.URL, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.Do(req)
	if err != nil {
		return "", err, nil
	}
	defer res.Body.Close()
	got, end := io.ReadAll(res.Body)
	return string(got), nil, end
}

// A store crashes at the change that was said, before it or after it, and nothing of
// it can be changed until it is recovered.
func TestStoreCrashes(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after %v", after), func(t *testing.T) {
			s := simulation.NewStore()
			put := func(key string) error { return s.Apply([]replica.Write{{Key: []byte(key), Value: []byte("1")}}) }
			has := func(key string) bool {
				ok, err := s.Get([]byte(key), func([]byte) error { return nil })
				if err != nil {
					t.Fatal(err)
				}
				return ok
			}
			s.CrashAt(1, after)
			if err := put("a"); err != nil {
				t.Fatal(err)
			}
			if err := put("b"); !errors.Is(err, simulation.ErrCrashed) || has("b") != after || !has("a") {
				t.Errorf("got %v; a %v, b %v", err, has("a"), has("b"))
			}
			if err := put("c"); !errors.Is(err, simulation.ErrCrashed) || has("c") || s.Applied() != 2 {
				t.Errorf("after the crash: %v, c %v, %d changes", err, has("c"), s.Applied())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if !s.Recover() || s.Recover() {
				t.Error("there was one crash")
			}
			if err := put("d"); err != nil || !has("d") || !has("a") {
				t.Errorf("after the recovery: %v", err)
			}
			twin, err := s.Clone()
			if err != nil {
				t.Fatal(err)
			}
			s = twin
			if !has("a") || !has("d") || has("b") != after || has("c") {
				t.Error("the clone has other rows")
			}
		})
	}
}

// What an op makes of values is what the rule says: the histories hold it against the
// log, and these are what a log never has.
func TestAppliedLeavesWhatCannotBe(t *testing.T) {
	text, two := []events.Value{events.Text("a")}, []events.Value{events.Number(1), events.Number(2)}
	op := events.Increment("n", 1)
	for _, vs := range [][]events.Value{text, two} {
		if got := simulation.Applied(&op, vs); !slices.Equal(got, vs) {
			t.Errorf("%v became %v", vs, got)
		}
	}
}
