package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/replica/storepb"
)

// Config says whose data a replica keeps and where it comes from.
type Config struct {
	// Store keeps the replica. Required. It belongs to one user of one server for
	// ever, and is closed by Replica.Close.
	Store Store

	// User is whose data it is. Required for a store that is new; of another one it
	// must be the store's own, or empty.
	User events.UserID

	// URL of the server's device port, such as https://data.example.com. Without one
	// the replica works, and Sync fails.
	URL string

	// Token returns the credential, a JWT of audience dalvdb/device for User. It is
	// asked before every attempt, so it should remember what it has until that
	// expires. Nil sends none.
	Token func(ctx context.Context) (string, error)

	// HTTPClient carries the requests. Nil is http.DefaultClient. It must not set a
	// Timeout, which would cut streams.
	HTTPClient connect.HTTPClient

	// Rules say how edits meet what others have done meanwhile. The first that
	// matches a key counts; without one its puts and deletes are guarded, and the
	// server's values are accepted in a conflict.
	Rules []Rule

	// Now is the clock, which is for display only. Nil: time.Now.
	Now func() time.Time
}

var (
	// ErrOtherUser says that the store belongs to another user.
	ErrOtherUser = errors.New("the store belongs to another user")

	// ErrOtherServer says that the server that answered is not the one that the
	// store belongs to. Nothing of the answer was stored.
	ErrOtherServer = errors.New("the store belongs to another server")

	// ErrNewerStore says that a newer version of this package has written the store.
	ErrNewerStore = errors.New("the store has a format newer than this version knows")

	// ErrClosed is returned by everything of a replica that was closed, or whose
	// store has failed.
	ErrClosed = errors.New("replica is closed")
)

// A Replica is one user's data on one device.
type Replica struct {
	store  Store
	rules  rules
	now    func() events.Time
	server server // nil without a URL

	// syncing holds a token while an exchange with the server is under way.
	syncing chan struct{}

	// unsure is owned by who has the token: the push that the store holds may have
	// reached the server.
	unsure bool

	// met is owned by who has the token: the server that answers is that of the store.
	met bool

	// writing is held by who changes the replica, from its first look to the end of
	// Store.Apply. Order: writing before mu.
	writing sync.Mutex
	handles map[BatchID][]*Batch // of batches that have not ended, by the batch that they became part of; guarded by writing

	// mu guards what readers see, and is held while the rows of the store that
	// readers see change. Who holds writing may read the fields without it.
	//
	//	touching == the batches of outbox by the keys they write, in order
	mu       sync.RWMutex
	head     head
	outbox   []*batch // in order; those that are accepted and not yet shown come first
	touching map[events.Key][]*batch
	frozen   *frozenPush
	ended    error         // why nothing more is done
	closed   bool          // Close has been called
	wiped    bool          // Wipe has emptied the store
	listed   int           // how many cases there are
	parked   int           // how many of them wait
	course   Status        // how it gets on with the server; the rest of it is filled in
	turned   chan struct{} // closed when the status changes
	watchers map[*watcher]struct{}

	goneOnce sync.Once
	gone     chan struct{} // closed when ended is set

	// edited has a token when an edit has been made since Run last looked.
	edited chan struct{}
}

// head is what the store knows about itself.
type head struct {
	user      events.UserID
	device    string
	history   events.LogID // zero: no server has answered yet
	seq       int64
	after     events.PushID
	position  events.Position // zero: nothing has come yet
	gen       uint32
	lastBatch BatchID
	lastCase  CaseID
	forked    BatchID  // not 0: batches up to there may have taken effect by another copy of the store
	staging   *staging // a snapshot that is being taken; not changed but replaced
}

// staging is a snapshot on its way. Its entries stand in the generation after that
// of the head.
type staging struct {
	position events.Position // of its first cut
	after    events.Key      // how far it has come
	resumed  bool            // later parts are of later cuts: a delta from position must follow
}

// Open opens the replica that the store keeps, or makes it. After an error the
// store is still the caller's.
func Open(cfg Config) (*Replica, error) {
	if cfg.Store == nil {
		return nil, errors.New("replica.Config.Store: required")
	}
	rs, err := compile(cfg.Rules)
	if err != nil {
		return nil, fmt.Errorf("replica.Config.Rules: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Replica{
		store: cfg.Store, rules: rs, syncing: make(chan struct{}, 1), unsure: true,
		now:     func() events.Time { return events.TimeOf(cfg.Now()) },
		handles: make(map[BatchID][]*Batch), turned: make(chan struct{}), edited: make(chan struct{}, 1), watchers: make(map[*watcher]struct{}),
		gone: make(chan struct{}),
	}
	if cfg.URL != "" {
		if r.server, err = newRemote(&cfg); err != nil {
			return nil, err
		}
	}
	if err := r.load(cfg.User); err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	return r, nil
}

// load reads the store, and makes its first row.
func (r *Replica) load(user events.UserID) error {
	var m storepb.Head
	there, err := r.store.Get(headKey, func(b []byte) error { return decode(b, &m) })
	switch {
	case err != nil:
		return err
	case !there:
		return r.create(user)
	case m.GetFormat() > storeFormat:
		return fmt.Errorf("%w: format %d, known up to %d", ErrNewerStore, m.GetFormat(), storeFormat)
	case m.GetFormat() < 1:
		return fmt.Errorf("head: %w", errRow)
	}
	r.head = decodeHead(&m)
	if user != "" && user != r.head.user {
		return ErrOtherUser
	}
	if r.frozen, err = r.loadPush(); err != nil {
		return err
	}
	if r.outbox, err = r.loadOutbox(); err != nil {
		return err
	}
	r.touching = touched(r.outbox)
	cases, err := r.Cases()
	r.listed = len(cases)
	for i := range cases {
		if cases[i].waits() {
			r.parked++
		}
	}
	return err
}

func (r *Replica) create(user events.UserID) error {
	if user == "" || len(user) > events.UserBytesMax {
		return fmt.Errorf("replica.Config.User: %d bytes, want 1 to %d", len(user), events.UserBytesMax)
	}
	r.head = head{user: user, device: newDevice(), gen: 1}
	r.touching = make(map[events.Key][]*batch)
	row, err := encode(encodeHead(&r.head))
	if err != nil {
		return err
	}
	return r.store.Apply([]Write{{Key: headKey, Value: row}})
}

// newDevice returns a name that no other replica has.
func newDevice() string { return uuid.NewString() }

func (r *Replica) loadOutbox() ([]*batch, error) {
	var all []*batch
	var bad error
	lower, upper := kindRange(rowBatch)
	err := r.store.Scan(lower, upper, false, func(key, value []byte) bool {
		var m storepb.Batch
		id, err := numberOf(key)
		if bad = errors.Join(err, decode(value, &m)); bad != nil {
			return false
		}
		all = append(all, decodeBatch(BatchID(id), &m))
		return true
	})
	return all, errors.Join(bad, err)
}

func (r *Replica) loadPush() (*frozenPush, error) {
	var m storepb.Push
	there, err := r.store.Get(pushKey, func(b []byte) error { return decode(b, &m) })
	if err != nil || !there {
		return nil, err
	}
	return decodePush(&m)
}

// look returns how the replica stands.
func (r *Replica) look() (head, *frozenPush) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.head, r.frozen
}

// User returns whose data the replica keeps.
func (r *Replica) User() events.UserID {
	h, _ := r.look()
	return h.user
}

// Position returns where on the server what is read is true at, edits of this
// device apart; it is zero before anything has come.
func (r *Replica) Position() events.Position {
	h, _ := r.look()
	return h.position
}

// Close ends the replica and closes its store. Run ends, and calls fail with
// ErrClosed. It waits for what speaks to the server: end a Sync that may take long by
// its context before.
func (r *Replica) Close() error {
	r.mu.Lock()
	if r.ended == nil {
		r.ended = ErrClosed
	}
	r.endLocked()
	r.mu.Unlock()
	r.nudge()
	r.syncing <- struct{}{}
	defer func() { <-r.syncing }()
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	var err error
	if s, ok := r.store.(eraser); ok && r.wiped {
		err = s.erase()
	}
	return errors.Join(err, r.store.Close())
}

// endLocked wakes all who would wait for ever.
func (r *Replica) endLocked() {
	r.goneOnce.Do(func() { close(r.gone) })
	r.turnLocked()
	for w := range r.watchers {
		w.wakeUp()
	}
}

func encodeHead(h *head) proto.Message {
	m := &storepb.Head{
		Format: storeFormat, User: string(h.user), Device: h.device, Seq: h.seq,
		Position: encodePosition(h.position), Generation: h.gen, LastBatch: int64(h.lastBatch), LastCase: int64(h.lastCase),
		Forked: int64(h.forked),
	}
	if !h.history.IsZero() {
		m.History = h.history[:]
	}
	if !h.after.IsZero() {
		m.After = h.after[:]
	}
	if s := h.staging; s != nil {
		m.Staging = &storepb.Staging{Position: encodePosition(s.position), AfterKey: string(s.after)}
	}
	return m
}

func decodeHead(m *storepb.Head) head {
	h := head{
		user: events.UserID(m.GetUser()), device: m.GetDevice(), seq: m.GetSeq(),
		position: decodePosition(m.GetPosition()), gen: m.GetGeneration(),
		lastBatch: BatchID(m.GetLastBatch()), lastCase: CaseID(m.GetLastCase()),
		forked: BatchID(m.GetForked()),
	}
	copy(h.history[:], m.GetHistory())
	copy(h.after[:], m.GetAfter())
	if s := m.GetStaging(); s != nil {
		// What comes from now on is of a later cut.
		h.staging = &staging{position: decodePosition(s.GetPosition()), after: events.Key(s.GetAfterKey()), resumed: true}
	}
	return h
}
