package projector

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/internal/invariants"
)

// A group is a run of records that become one Pebble batch: effects, verdicts,
// identities and the applied offset, all or nothing. It is the view of the fold
// while the group lasts: what is committed, overlaid with what the records
// before have changed.
//
// Rows that are written again and again (the entry of a hot key, the row of a
// user) are kept decoded and written once, when the group ends; they stay for
// the next groups, so that a busy user is not read again and again either. Rows
// of lists go through an indexed batch, because the fold walks them.
type group struct {
	base  reader
	batch *pebble.Batch // in the order in which rows were written
	order *ordered
	lists *pebble.Batch // nil until a row of a list has changed
	walk  reader        // over lists, once it is there

	users    overlay[events.UserID, userRow]
	entries  overlay[entryID, entryState]
	devices  overlay[nameID, deviceRow]
	requests overlay[nameID, requestRow]
	sources  overlay[nameID, sourceRow]

	buf []byte
	val []byte
}

var _ view = (*group)(nil)

type entryID struct {
	user events.UserID
	key  events.Key
}

type nameID struct {
	user      events.UserID
	owner, id string
}

// entryState is an entry in a group, with the version under which its change
// row is committed, 0 for none.
type entryState struct {
	row       *entryRow
	committed events.Offset
}

func newGroup(db *pebble.DB, p events.Partition) *group {
	return &group{
		base:     reader{db: db, partition: p},
		batch:    db.NewBatch(),
		order:    &ordered{batch: db.NewBatch()},
		users:    newOverlay[events.UserID](func(*userRow) int { return 0 }),
		entries:  newOverlay[entryID]((*entryState).weight),
		devices:  newOverlay[nameID]((*deviceRow).weight),
		requests: newOverlay[nameID]((*requestRow).weight),
		sources:  newOverlay[nameID]((*sourceRow).weight),
	}
}

func (st *entryState) weight() int { return st.row.sole.value.Size() }

func (d *deviceRow) weight() int {
	if d == nil {
		return 0
	}
	return d.ruling.weight()
}

func (q *requestRow) weight() int {
	if q == nil {
		return 0
	}
	return q.ruling.weight()
}

func (s *sourceRow) weight() int {
	if s == nil {
		return 0
	}
	return s.ruling.weight()
}

func (r *ruling) weight() int { return 16*len(r.conflicts) + 64*len(r.violations) }

func (g *group) user(u events.UserID) (*userRow, error) {
	return g.users.load(u, func() (*userRow, error) { return g.base.user(u) })
}

// fresh reports whether the state has nothing of the user, so that no other row
// of the user needs to be looked for.
func (g *group) fresh(u events.UserID) (bool, error) {
	row, err := g.user(u)
	return err == nil && !row.known, err
}

// ofUser returns a row of the user, nil when the user is new.
func ofUser[K comparable, T any](g *group, o *overlay[K, T], u events.UserID, k K, below func() (*T, error)) (*T, error) {
	return o.load(k, func() (*T, error) {
		if fresh, err := g.fresh(u); fresh || err != nil {
			return nil, err
		}
		return below()
	})
}

func (g *group) device(u events.UserID, id string) (*deviceRow, error) {
	return ofUser(g, &g.devices, u, nameID{u, "", id}, func() (*deviceRow, error) { return g.base.device(u, id) })
}

func (g *group) request(u events.UserID, service, id string) (*requestRow, error) {
	return ofUser(g, &g.requests, u, nameID{u, service, id}, func() (*requestRow, error) { return g.base.request(u, service, id) })
}

func (g *group) source(u events.UserID, service, name string) (*sourceRow, error) {
	return ofUser(g, &g.sources, u, nameID{u, service, name}, func() (*sourceRow, error) { return g.base.source(u, service, name) })
}

func (g *group) entry(u events.UserID, k events.Key) (*entryRow, error) {
	st, err := g.entryState(u, k)
	if err != nil {
		return nil, err
	}
	return st.row, nil
}

func (g *group) entryState(u events.UserID, k events.Key) (*entryState, error) {
	return g.entries.load(entryID{u, k}, func() (*entryState, error) {
		if fresh, err := g.fresh(u); fresh || err != nil {
			return &entryState{row: &noEntry}, err
		}
		row, err := g.base.entry(u, k)
		if err != nil {
			return nil, err
		}
		return &entryState{row: row, committed: row.version}, nil
	})
}

// value implements view. What is away in a row of the group is as it is below: the
// group has not changed it.
func (g *group) value(u events.UserID, k events.Key) (events.Value, error) { return g.base.value(u, k) }

// list is where rows of lists are read: below what the group changed.
func (g *group) list() *reader {
	if g.lists == nil {
		return &g.base
	}
	return &g.walk
}

// listBatch is where rows of lists are written.
func (g *group) listBatch() *pebble.Batch {
	if g.lists == nil {
		g.lists = g.base.db.(*pebble.DB).NewIndexedBatch()
		g.walk = reader{db: g.lists, partition: g.base.partition}
	}
	return g.lists
}

func (g *group) spot(u events.UserID, k events.Key, v events.Value) (spot, bool, error) {
	return g.list().spot(u, k, v)
}

func (g *group) elements(u events.UserID, k events.Key, from spot, yield func(element) bool) error {
	return g.list().elements(u, k, from, yield)
}

// apply takes in what an event did.
func (g *group) apply(off events.Offset, res *result) error {
	ev := res.event
	old, err := g.user(ev.User)
	if err != nil {
		return err
	}
	u := *old
	if !u.known {
		u.known, u.created = true, off
	}
	var conflicts []events.Conflict
	if res.outcome == events.Rejected {
		conflicts = res.ruling.conflicts
	}
	u.hash = verdictHash(u.hash, off, res.outcome, conflicts)
	if res.newDevice {
		u.devices++
	}
	for i := range res.keys {
		kc := &res.keys[i]
		u.keys += present(&kc.after) - present(kc.before)
		u.bytes += footprint(kc.key, &kc.after) - footprint(kc.key, kc.before)
		if err := g.change(ev.User, kc); err != nil {
			return err
		}
	}
	if len(res.keys) > 0 {
		u.changed, u.time = off, ev.Time
	}
	g.users.store(ev.User, &u)
	g.identify(off, res)
	return g.set(g.batch, eventKey(g.buf[:0], g.base.partition, ev.User, off), res.eventRow().append(g.val[:0]))
}

// eventRow is what is stored of the event itself.
func (res *result) eventRow() *eventRow {
	row := &eventRow{ruling: ruling{outcome: res.outcome}}
	switch res.outcome {
	case events.Duplicate:
		row.first = res.at
	case events.Forked:
		row.acceptedID, row.acceptedAt = res.acceptedID, res.acceptedAt
	case events.Accepted:
		if res.exact {
			row.exact, row.changes = true, res.changes
		}
	default:
		row.ruling.conflicts, row.ruling.violations = res.ruling.conflicts, res.ruling.violations
	}
	return row
}

func present(e *entryRow) int64 {
	if e.count > 0 {
		return 1
	}
	return 0
}

func footprint(k events.Key, e *entryRow) int64 {
	if e.count == 0 {
		return 0
	}
	return int64(len(k)) + e.bytes
}

// identify keeps the names under which the event will be known.
func (g *group) identify(off events.Offset, res *result) {
	u, w := res.event.User, res.event.Writer
	if res.device != nil {
		g.devices.store(nameID{u, "", w.ID}, res.device)
	}
	if res.source != nil {
		g.sources.store(nameID{u, w.ID, res.event.Source.Name}, res.source)
	}
	if res.request != nil {
		g.requests.store(nameID{u, w.ID, res.event.Request}, res.request)
		_ = g.set(g.batch, expiryRequestKey(g.buf[:0], g.base.partition, off, u, w.ID, res.event.Request), nil)
	}
}

// set writes a row. A write to a batch fails only when the batch is misused.
func (g *group) set(b *pebble.Batch, key, value []byte) error {
	g.buf, g.val = key[:0], value[:0]
	return b.Set(key, value, nil)
}

func (g *group) del(b *pebble.Batch, key []byte) error {
	g.buf = key[:0]
	return b.Delete(key, nil)
}

// finish writes the rows that were kept back and how far the group has come,
// and returns the batch, which the caller commits.
func (g *group) finish(a *appliedRow) (*pebble.Batch, error) {
	p := g.base.partition
	for _, u := range g.users.order {
		if err := g.set(g.batch, userKey(g.buf[:0], p, u), g.users.rows[u].append(g.val[:0])); err != nil {
			return nil, err
		}
	}
	for _, id := range g.entries.order {
		if err := g.finishEntry(id, g.entries.rows[id]); err != nil {
			return nil, err
		}
	}
	for _, id := range g.devices.order {
		if err := g.set(g.batch, deviceKey(g.buf[:0], p, id.user, id.id), g.devices.rows[id].append(g.val[:0])); err != nil {
			return nil, err
		}
	}
	for _, id := range g.requests.order {
		if err := g.set(g.batch, requestKey(g.buf[:0], p, id.user, id.owner, id.id), g.requests.rows[id].append(g.val[:0])); err != nil {
			return nil, err
		}
	}
	for _, id := range g.sources.order {
		if err := g.set(g.batch, sourceKey(g.buf[:0], p, id.user, id.owner, id.id), g.sources.rows[id].append(g.val[:0])); err != nil {
			return nil, err
		}
	}
	if !plantOffsetApart {
		if err := g.set(g.batch, appliedKey(g.buf[:0], p), a.append(g.val[:0])); err != nil {
			return nil, err
		}
	}
	batch, err := g.order.of(g.batch)
	if err == nil && g.lists != nil {
		err = batch.Apply(g.lists, nil)
	}
	return batch, err
}

func (g *group) finishEntry(id entryID, st *entryState) error {
	p := g.base.partition
	if st.committed != 0 && st.committed != st.row.version {
		if err := g.del(g.batch, changeKey(g.buf[:0], p, id.user, st.committed, id.key)); err != nil {
			return err
		}
	}
	if st.row.version == 0 { // a tombstone that was dropped
		return g.del(g.batch, entryKey(g.buf[:0], p, id.user, id.key))
	}
	if st.row.away {
		return invariants.Broken("the entry of a key is written without its value")
	}
	if err := g.set(g.batch, entryKey(g.buf[:0], p, id.user, id.key), st.row.append(g.val[:0])); err != nil {
		return err
	}
	if st.committed == st.row.version {
		return nil
	}
	return g.set(g.batch, changeKey(g.buf[:0], p, id.user, st.row.version, id.key), nil)
}

// bytes is how large the batch has become so far.
func (g *group) bytes() int {
	if g.lists == nil {
		return g.batch.Len()
	}
	return g.batch.Len() + g.lists.Len()
}

// reset makes the group ready for the next run of records, after its batch was
// committed.
func (g *group) reset() {
	g.batch.Reset()
	g.order.batch.Reset()
	if g.lists != nil {
		_ = g.lists.Close() // an indexed batch that was applied holds only memory
		g.lists, g.walk = nil, reader{}
	}
	for _, id := range g.entries.order {
		g.settleEntry(id)
	}
	g.users.reset()
	g.entries.reset()
	g.devices.reset()
	g.requests.reset()
	g.sources.reset()
}

// settleEntry makes an entry that was committed one to go on from. A large
// value is not worth its memory.
func (g *group) settleEntry(id entryID) {
	row := g.entries.rows[id].row
	if row.sole.value.Size() > leanValueMax {
		g.entries.drop(id)
		return
	}
	g.entries.replace(id, &entryState{row: row, committed: row.version})
}

func (g *group) close() {
	_ = g.batch.Close() // was committed, or is given up
	_ = g.order.batch.Close()
	if g.lists != nil {
		_ = g.lists.Close()
	}
}

// expire notes that the key has tombstones of this offset.
func (g *group) expire(u events.UserID, off events.Offset, k events.Key) error {
	return g.set(g.batch, expiryEntryKey(g.buf[:0], g.base.partition, off, u, k), nil)
}

func spotValue(b []byte, s spot) []byte {
	return binary.BigEndian.AppendUint32(appendOffset(b, s.offset), uint32(s.op))
}
