package wire

import (
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// A Synced is the answer to one round of a device: the verdict on its push,
// nil without one, and what has changed.
type Synced struct {
	Verdict *Verdict
	Delta   events.Delta
}

// EncodeSynced returns the message of an answer.
func EncodeSynced(s Synced) *dalvdbv1.SyncResponse {
	return &dalvdbv1.SyncResponse{
		Verdict: EncodeVerdict(s.Verdict), Changes: EncodeChanges(s.Delta.Changes),
		Position: EncodePosition(s.Delta.Position), More: s.Delta.More,
		SnapshotRequired: s.Delta.SnapshotRequired, HistoryId: s.Delta.History.String(),
	}
}

// DecodeSynced returns the answer of a message.
func DecodeSynced(m *dalvdbv1.SyncResponse) (Synced, error) {
	verdict, err := DecodeVerdict(m.GetVerdict(), "verdict")
	if err != nil {
		return Synced{}, err
	}
	changes, err := DecodeChanges(m.GetChanges(), "changes")
	if err != nil {
		return Synced{}, err
	}
	pos, err := DecodePosition(m.GetPosition(), "position")
	if err != nil {
		return Synced{}, err
	}
	history, err := DecodeLogID(m.GetHistoryId(), "history_id")
	if err != nil {
		return Synced{}, err
	}
	return Synced{Verdict: verdict, Delta: events.Delta{
		History: history, Position: pos, Changes: changes, More: m.GetMore(), SnapshotRequired: m.GetSnapshotRequired(),
	}}, nil
}

// EncodeUser returns the message of a user with figures.
func EncodeUser(u events.UserInfo) *dalvdbv1.User {
	return &dalvdbv1.User{
		UserId: string(u.User), Partition: int32(u.Partition), Keys: u.Keys, Bytes: u.Bytes, Devices: u.Devices,
		LastChange: EncodePosition(u.LastChange), LastChangeTime: EncodeTime(u.LastTime),
	}
}

// DecodeUser returns the user of a message; field is its path.
func DecodeUser(m *dalvdbv1.User, field string) (events.UserInfo, error) {
	pos, err := DecodePosition(m.GetLastChange(), field+".last_change")
	if err != nil {
		return events.UserInfo{}, err
	}
	t, err := DecodeTime(m.GetLastChangeTime(), field+".last_change_time")
	if err != nil {
		return events.UserInfo{}, err
	}
	return events.UserInfo{
		User: events.UserID(m.GetUserId()), Partition: events.Partition(m.GetPartition()),
		Keys: m.GetKeys(), Bytes: m.GetBytes(), Devices: m.GetDevices(), LastChange: pos, LastTime: t,
	}, nil
}

// EncodeUsers encodes users in their order.
func EncodeUsers(us []events.UserInfo) []*dalvdbv1.User { return each(us, EncodeUser) }

// DecodeUsers decodes users in their order; field is the path of the list.
func DecodeUsers(ms []*dalvdbv1.User, field string) ([]events.UserInfo, error) {
	return eachField(ms, field, DecodeUser)
}

// EncodeRead returns the message of a read, nil of a strong one.
func EncodeRead(r events.Read) *dalvdbv1.Read {
	switch r.Mode {
	case events.ReadStale:
		return &dalvdbv1.Read{Mode: &dalvdbv1.Read_Stale{Stale: &dalvdbv1.Stale{}}}
	case events.ReadAtLeast:
		return &dalvdbv1.Read{Mode: &dalvdbv1.Read_AtLeast{AtLeast: EncodePosition(r.Position)}}
	case events.ReadStrong:
	}
	return nil
}

// DecodeRead returns the read of a message, a strong one of nil; field is its path.
func DecodeRead(m *dalvdbv1.Read, field string) (events.Read, error) {
	switch mode := m.GetMode().(type) {
	case *dalvdbv1.Read_Stale:
		return events.Read{Mode: events.ReadStale}, nil
	case *dalvdbv1.Read_AtLeast:
		if mode.AtLeast == nil {
			return events.Read{}, invalid(field+".at_least", "required")
		}
		pos, err := DecodePosition(mode.AtLeast, field+".at_least")
		return events.Read{Mode: events.ReadAtLeast, Position: pos}, err
	}
	return events.Read{Mode: events.ReadStrong}, nil
}
