package main

import (
	"strconv"

	"github.com/dalvdb/dalvdb/events"
)

// replayOp is an op, which has one of its fields besides the key.
type replayOp struct {
	Key            events.Key     `json:"key"`
	Put            *replayContent `json:"put,omitempty"`
	Delete         *replayContent `json:"delete,omitempty"`
	AddToList      *replayContent `json:"addToList,omitempty"`
	RemoveFromList *replayContent `json:"removeFromList,omitempty"`
	Increment      *replayContent `json:"increment,omitempty"`
}

// replayContent is what an op or a change says of its key.
type replayContent struct {
	Value     replayValue `json:"value,omitempty"`
	By        string      `json:"by,omitempty"`
	KeepLast  int64       `json:"keepLast,string,omitempty"`
	MoveToEnd bool        `json:"moveToEnd,omitempty"`

	Values  []replayValue `json:"values,omitempty"`
	Removed []replayValue `json:"removed,omitempty"`
	Added   []replayValue `json:"added,omitempty"`
}

// replayChange is what became of a key. It has one of its fields besides key and
// version.
type replayChange struct {
	Key      events.Key     `json:"key"`
	Version  events.Offset  `json:"version,string"`
	Deleted  *replayContent `json:"deleted,omitempty"`
	Replaced *replayContent `json:"replaced,omitempty"`
	Patched  *replayContent `json:"patched,omitempty"`
}

// replayValue is a value: one name, which is its kind, with what it is.
type replayValue map[string]string

func valueOf(v events.Value) replayValue {
	switch v.Kind() {
	case events.ValueData:
		return replayValue{v.Kind().String(): base64Of(v.Bytes())}
	case events.ValueNumber:
		return replayValue{v.Kind().String(): strconv.FormatInt(v.Number(), 10)}
	case events.ValueText, events.ValueJSON:
		return replayValue{v.Kind().String(): v.Bytes()}
	}
	return nil
}

func (f lineForm) op(op *events.Op) replayOp {
	c := &replayContent{KeepLast: op.KeepLast, MoveToEnd: op.MoveToEnd}
	if f.values {
		c.Value = valueOf(op.Value)
	}
	l := replayOp{Key: op.Key}
	switch op.Kind {
	case events.OpPut:
		l.Put = c
	case events.OpDelete:
		l.Delete = c
	case events.OpAdd:
		l.AddToList = c
	case events.OpRemove:
		l.RemoveFromList = c
	case events.OpIncrement:
		l.Increment = c
		if f.values {
			c.By = strconv.FormatInt(op.By, 10)
		}
	}
	return l
}

func (f lineForm) change(c *events.Change) replayChange {
	content := &replayContent{Values: f.list(c.Values), Removed: f.list(c.Removed), Added: f.list(c.Added)}
	l := replayChange{Key: c.Key, Version: c.Version}
	switch c.Kind {
	case events.Deleted:
		l.Deleted = content
	case events.Replaced:
		l.Replaced = content
	case events.Patched:
		l.Patched = content
	}
	return l
}

func (f lineForm) list(vs []events.Value) (ls []replayValue) {
	if f.values {
		for _, v := range vs {
			ls = append(ls, valueOf(v))
		}
	}
	return ls
}

// controlLine is what a control record says. It has one of its fields.
type controlLine struct {
	Genesis *genesisLine `json:"genesis,omitempty"`
	Epoch   *epochLine   `json:"epoch,omitempty"`
	Barrier *struct{}    `json:"barrier,omitempty"`
	Domains *domainsLine `json:"domains,omitempty"`
	Fold    *foldLine    `json:"fold,omitempty"`
}

type genesisLine struct {
	LogID      string           `json:"logId"`
	Partition  events.Partition `json:"partition"`
	Partitions int32            `json:"partitions"`
	domainsLine
	foldLine
}

type epochLine struct {
	LogID string `json:"logId"` // that begins here
}

type domainsLine struct {
	Patterns []domainLine `json:"patterns"`
}

type domainLine struct {
	Pattern string `json:"pattern"`
	Domain  string `json:"domain"`
}

type foldLine struct {
	FoldVersion uint32 `json:"foldVersion"`
}

func controlOf(rec *events.Record) *controlLine {
	switch {
	case rec.Genesis != nil:
		g := rec.Genesis
		return &controlLine{Genesis: &genesisLine{g.Log.String(), g.Partition, g.Partitions, domainsOf(g.Domains), foldLine{g.FoldVersion}}}
	case rec.Epoch != nil:
		return &controlLine{Epoch: &epochLine{rec.Epoch.Log.String()}}
	case rec.Barrier != nil:
		return &controlLine{Barrier: &struct{}{}}
	case rec.Domains != nil:
		l := domainsOf(rec.Domains.Domains)
		return &controlLine{Domains: &l}
	case rec.Fold != nil:
		return &controlLine{Fold: &foldLine{rec.Fold.Version}}
	}
	return &controlLine{}
}

func domainsOf(d events.Domains) domainsLine {
	l := domainsLine{make([]domainLine, 0, len(d))}
	for _, r := range d {
		l.Patterns = append(l.Patterns, domainLine{r.Pattern, r.Domain.String()})
	}
	return l
}

// kind names the record for people.
func (c *controlLine) kind() string {
	switch {
	case c.Genesis != nil:
		return "genesis"
	case c.Epoch != nil:
		return "epoch"
	case c.Barrier != nil:
		return "barrier"
	case c.Domains != nil:
		return "domains"
	case c.Fold != nil:
		return "fold"
	}
	return "?"
}
