package wire

import (
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// EncodeEntry returns the message of an entry.
func EncodeEntry(e events.Entry) *dalvdbv1.Entry {
	return &dalvdbv1.Entry{
		Key: string(e.Key), Version: int64(e.Version), Values: EncodeValues(e.Values),
		Writer: EncodeWriter(e.Writer), Time: EncodeTime(e.Time),
	}
}

// DecodeEntry returns the entry of a message; field is its path.
func DecodeEntry(m *dalvdbv1.Entry, field string) (events.Entry, error) {
	t, err := DecodeTime(m.GetTime(), field+".time")
	if err != nil {
		return events.Entry{}, err
	}
	return events.Entry{
		Key: events.Key(m.GetKey()), Version: events.Offset(m.GetVersion()), Values: DecodeValues(m.GetValues()),
		Writer: DecodeWriter(m.GetWriter()), Time: t,
	}, nil
}

// EncodeEntries encodes entries in their order.
func EncodeEntries(es []events.Entry) []*dalvdbv1.Entry { return each(es, EncodeEntry) }

// DecodeEntries decodes entries in their order; field is the path of the list.
func DecodeEntries(ms []*dalvdbv1.Entry, field string) ([]events.Entry, error) {
	return eachField(ms, field, DecodeEntry)
}

// EncodeKeyVersion returns the message of a key with its version.
func EncodeKeyVersion(kv events.KeyVersion) *dalvdbv1.KeyVersion {
	return &dalvdbv1.KeyVersion{Key: string(kv.Key), Version: int64(kv.Version)}
}

// DecodeKeyVersion returns the key with its version of a message.
func DecodeKeyVersion(m *dalvdbv1.KeyVersion) events.KeyVersion {
	return events.KeyVersion{Key: events.Key(m.GetKey()), Version: events.Offset(m.GetVersion())}
}

// EncodeChange returns the message of a change.
func EncodeChange(c events.Change) *dalvdbv1.Change {
	m := &dalvdbv1.Change{
		Key: string(c.Key), Version: int64(c.Version), Writer: EncodeWriter(c.Writer), Time: EncodeTime(c.Time),
	}
	switch c.Kind {
	case events.Deleted:
		m.Kind = &dalvdbv1.Change_Deleted{Deleted: &dalvdbv1.Deleted{}}
	case events.Replaced:
		m.Kind = &dalvdbv1.Change_Replaced{Replaced: &dalvdbv1.Replaced{Values: EncodeValues(c.Values)}}
	case events.Patched:
		m.Kind = &dalvdbv1.Change_Patched{Patched: &dalvdbv1.Patched{
			Removed: EncodeValues(c.Removed), Added: EncodeValues(c.Added),
		}}
	}
	return m
}

// DecodeChange returns the change of a message. One without a kind this binary
// knows is an error, since it cannot be applied; field is its path.
func DecodeChange(m *dalvdbv1.Change, field string) (events.Change, error) {
	t, err := DecodeTime(m.GetTime(), field+".time")
	if err != nil {
		return events.Change{}, err
	}
	c := events.Change{
		Key: events.Key(m.GetKey()), Version: events.Offset(m.GetVersion()), Writer: DecodeWriter(m.GetWriter()), Time: t,
	}
	switch k := m.GetKind().(type) {
	case *dalvdbv1.Change_Deleted:
		c.Kind = events.Deleted
	case *dalvdbv1.Change_Replaced:
		c.Kind, c.Values = events.Replaced, DecodeValues(k.Replaced.GetValues())
	case *dalvdbv1.Change_Patched:
		c.Kind = events.Patched
		c.Removed, c.Added = DecodeValues(k.Patched.GetRemoved()), DecodeValues(k.Patched.GetAdded())
	default:
		return events.Change{}, invalid(field, "a change of no known kind")
	}
	return c, nil
}

// EncodeChanges encodes changes in their order.
func EncodeChanges(cs []events.Change) []*dalvdbv1.Change { return each(cs, EncodeChange) }

// DecodeChanges decodes changes in their order; field is the path of the list.
func DecodeChanges(ms []*dalvdbv1.Change, field string) ([]events.Change, error) {
	return eachField(ms, field, DecodeChange)
}

// EncodeChangeEvent returns the message of an accepted event.
func EncodeChangeEvent(e *events.ChangeEvent) *dalvdbv1.ChangeEvent {
	return &dalvdbv1.ChangeEvent{
		UserId: string(e.User), Position: EncodePosition(e.Position), Writer: EncodeWriter(e.Writer),
		Time: EncodeTime(e.Time), Meta: EncodeMeta(e.Meta), Changes: EncodeChanges(e.Changes),
	}
}

// DecodeChangeEvent returns the accepted event of a message; field is its path.
func DecodeChangeEvent(m *dalvdbv1.ChangeEvent, field string) (*events.ChangeEvent, error) {
	pos, err := DecodePosition(m.GetPosition(), field+".position")
	if err != nil {
		return nil, err
	}
	t, err := DecodeTime(m.GetTime(), field+".time")
	if err != nil {
		return nil, err
	}
	changes, err := DecodeChanges(m.GetChanges(), field+".changes")
	if err != nil {
		return nil, err
	}
	return &events.ChangeEvent{
		User: events.UserID(m.GetUserId()), Position: pos, Writer: DecodeWriter(m.GetWriter()),
		Time: t, Meta: DecodeMeta(m.GetMeta()), Changes: changes,
	}, nil
}

// EncodeDomains returns the messages of domain rules.
func EncodeDomains(d events.Domains) []*dalvdbv1.DomainRule {
	return each(d, func(r events.DomainRule) *dalvdbv1.DomainRule {
		return &dalvdbv1.DomainRule{Pattern: r.Pattern, Domain: dalvdbv1.Domain(r.Domain)}
	})
}

// DecodeDomains returns the domain rules of messages. A domain that is not
// known becomes 0, which events.Domains.Validate refuses.
func DecodeDomains(ms []*dalvdbv1.DomainRule) events.Domains {
	return each(ms, func(m *dalvdbv1.DomainRule) events.DomainRule {
		return events.DomainRule{Pattern: m.GetPattern(), Domain: small[events.Domain](m.GetDomain())}
	})
}
