package replica_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/system/nodetest"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// host is a server of a scenario.
type host struct {
	*nodetest.Node
	name  string
	clock *nodetest.Clock
	copy  *nodetest.Disk
}

// host returns the server of a name. The main one is there from the first command
// that needs it.
func (s *scene) host(name string) *host {
	if s.hosts[name] == nil {
		if name != "main" {
			s.fatal("there is no server %q", name)
		}
		s.startHost(name)
	}
	return s.hosts[name]
}

func (s *scene) startHost(name string) {
	clock := new(nodetest.Clock)
	n := nodetest.New(s.t, nodetest.Options{Now: clock.Now, TombstonesKeep: day, Partitions: 1})
	s.hosts[name] = &host{Node: n, name: name, clock: clock}
}

func (s *scene) hostOf() *host { return s.host(s.arg("server", "main")) }

func (s *scene) service() *backend.Client { return s.hostOf().Service(s.t, "shop") }

func (s *scene) newServer(context.Context) string {
	if s.hosts[s.word(0)] != nil {
		s.fatal("there is a server %q", s.word(0))
	}
	s.startHost(s.word(0))
	return ""
}

func (s *scene) backup(context.Context) string {
	h := s.hostOf()
	h.copy = h.CopyDisk()
	return ""
}

func (s *scene) restore(context.Context) string {
	h := s.hostOf()
	if h.copy == nil {
		s.fatal("there is no backup")
	}
	h.Stop(s.t)
	s.must(h.PutDisk(h.copy))
	h.Start(s.t)
	return ""
}

// forgetDeletions lets time pass until deletions are not remembered. Somebody else
// writes meanwhile, for time is that of the records.
func (s *scene) forgetDeletions(ctx context.Context) string {
	h := s.hostOf()
	for range 4 {
		h.clock.Advance(2 * day)
		_, err := s.service().Update(ctx, "somebody else", backend.Update{Ops: []events.Op{put("time", "passes")}})
		s.must(err)
	}
	return ""
}

func (s *scene) setDomains(ctx context.Context) string {
	var ds events.Domains
	for _, l := range s.lines() {
		pattern, name, _ := strings.Cut(l, " ")
		d, err := events.ParseDomain(name)
		s.must(err)
		ds = append(ds, events.DomainRule{Pattern: pattern, Domain: d})
	}
	s.must(s.service().SetDomains(ctx, ds))
	return ""
}

// backend writes as a service. A line "fill PREFIX COUNT VALUE" writes keys PREFIX00,
// PREFIX01, ..., each in an update of its own.
func (s *scene) backend(ctx context.Context) string {
	var us []backend.Update
	var u backend.Update
	for _, l := range s.lines() {
		words := strings.Fields(l)
		if words[0] != "fill" {
			u.Ops = append(u.Ops, s.readOps(words)...)
			continue
		}
		for i := range s.number(words[2]) {
			k := events.Key(fmt.Sprintf("%s%02d", words[1], i))
			us = append(us, backend.Update{Ops: []events.Op{events.Put(k, s.readValue(words[3]))}})
		}
	}
	switch {
	case len(us) > 0 && len(u.Ops) > 0:
		s.fatal("fill stands alone")
	case len(us) == 0:
		us = append(us, u)
	}
	told := ""
	for _, u := range us {
		v, err := s.service().Update(ctx, s.userOf(), u)
		s.must(err)
		told = v.Outcome.String()
		for _, x := range v.Violations {
			told += ", " + tellViolation(x)
		}
	}
	return told + "\n"
}

// state tells what the server has, in the eyes of a backend.
func (s *scene) state(ctx context.Context) string {
	var out strings.Builder
	for e, err := range s.service().Entries(ctx, s.userOf(), backend.EntriesQuery{}) {
		s.must(err)
		fmt.Fprintf(&out, "%s %s\n", e.Key, tellValues(e.Values))
	}
	return orNothing(out.String())
}

// history tells what the log has of the user. Devices are numbered as they come.
func (s *scene) history(ctx context.Context) string {
	var out strings.Builder
	devices := make(map[string]int)
	for e, err := range s.service().History(ctx, events.HistoryQuery{User: s.userOf()}) {
		s.must(err)
		who := e.Event.Writer.String()
		if w := e.Event.Writer; w.Kind == events.WriterDevice {
			if devices[w.ID] == 0 {
				devices[w.ID] = len(devices) + 1
			}
			who = fmt.Sprintf("device %d", devices[w.ID])
		} else {
			who = strings.Replace(who, "/", " ", 1)
		}
		fmt.Fprintf(&out, "%s: %s: %v\n", who, tellOps(e.Event.Ops), e.Outcome)
	}
	return orNothing(out.String())
}
