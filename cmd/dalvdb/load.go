package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// addSet adds synced sets of a plain store of the records that pushes become, at
// growing keys as those of a log are. The store's memtables are those of the log.
func (b *bench) addSet(dir string) (end func() error, err error) {
	db, err := pebble.Open(dir, &pebble.Options{
		Logger: quiet{}, MemTableSize: 64 << 20, MemTableStopWritesThreshold: 4,
	})
	if err != nil {
		return nil, err
	}
	record, err := b.record()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	var last atomic.Uint64
	b.add(loadSet, func(context.Context, int) error {
		return db.Set(binary.BigEndian.AppendUint64(nil, last.Add(1)), record, pebble.Sync)
	})
	return db.Close, nil
}

// record is what the log keeps of a push of benchDevice.
func (b *bench) record() ([]byte, error) {
	now := time.Now()
	return events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &events.Event{
		User:   events.UserID(benchUser(0)),
		Writer: events.Writer{Kind: events.WriterDevice, ID: uuid.NewString()},
		Push:   events.Push{Seq: 1, ID: events.PushID(uuid.New()), After: events.PushID(uuid.New())},
		Time:   events.TimeOf(now),
		Ops:    []events.Op{events.Put(events.Key(benchKey(0)), events.Text(strings.Repeat("v", b.size)))},
	}})
}

// quiet is a logger of the store that only speaks of its end.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// addEcho adds pushes to a server that does nothing with them.
func (b *bench) addEcho(ctx context.Context, n *node) (end func() error, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := connectapi.NewServer(connectapi.NewEcho(n.verifier), nil, nil)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	end = func() error {
		err := server.Close()
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	}
	if err := b.addPushes(loadEcho, "http://"+l.Addr().String(), n); err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}

// addPushes adds pushes of one device of one user for each caller.
func (b *bench) addPushes(name, url string, n *node) error {
	keys, err := readKeys(n.settings.data)
	if err != nil {
		return err
	}
	client := dalvdbv1connect.NewReplicaServiceClient(benchHTTP(b.callers), url)
	devices := make([]*benchDevice, b.callers)
	for i := range devices {
		d := &benchDevice{client: client, user: benchUser(i), device: uuid.NewString(), value: b.value()}
		now := time.Now()
		who := auth.Identity{Role: auth.Device, User: events.UserID(d.user), Expires: now.Add(24 * time.Hour)}
		if d.token, err = keys.Sign(who, now); err != nil {
			return err
		}
		devices[i] = d
	}
	b.add(name, func(ctx context.Context, caller int) error { return devices[caller].push(ctx) })
	return nil
}

func benchUser(caller int) string { return fmt.Sprintf("bench-%d", caller) }

func (b *bench) value() *dalvdbv1.Value {
	return wire.EncodeValue(events.Text(strings.Repeat("v", b.size)))
}

// benchKeys is how many keys a user is given, one after the other.
const benchKeys = 100

func benchKey(n int64) string { return fmt.Sprintf("bench/%02d", n%benchKeys) }

// benchDevice is a device that pushes one put after the other and follows what
// it is told. It is for one goroutine.
type benchDevice struct {
	client       dalvdbv1connect.ReplicaServiceClient
	user, device string
	token        string
	value        *dalvdbv1.Value

	seq      int64
	after    []byte
	position *dalvdbv1.Position
}

func (d *benchDevice) push(ctx context.Context) error {
	d.seq++
	id := uuid.New()
	req := connect.NewRequest(&dalvdbv1.SyncRequest{
		UserId: d.user, DeviceId: d.device, Position: d.position,
		Push: &dalvdbv1.Push{Seq: d.seq, Id: id[:], After: d.after, Ops: []*dalvdbv1.Op{{
			Key: benchKey(d.seq), Kind: &dalvdbv1.Op_Put{Put: &dalvdbv1.Put{Value: d.value}},
		}}},
	})
	req.Header().Set("Authorization", "Bearer "+d.token)
	res, err := d.client.Sync(ctx, req)
	if err != nil {
		return err
	}
	if got := res.Msg.GetVerdict().GetOutcome(); got != dalvdbv1.Outcome_OUTCOME_ACCEPTED {
		return fmt.Errorf("a push met %v", got)
	}
	d.after, d.position = id[:], res.Msg.GetPosition()
	return nil
}

// addBackend adds updates and reads, on the node of --url if there is one.
func (b *bench) addBackend(n *node) error {
	client, err := b.backend(n)
	if err != nil {
		return err
	}
	value := events.Text(strings.Repeat("v", b.size))
	counts := make([]int64, b.callers)
	b.add(loadUpdate, func(ctx context.Context, caller int) error {
		counts[caller]++
		u := backend.Update{Ops: []events.Op{events.Put(events.Key(benchKey(counts[caller])), value)}}
		v, err := client.Update(ctx, events.UserID(benchUser(caller)), u)
		if err == nil && v.Outcome != events.Accepted {
			err = fmt.Errorf("an update was %v", v.Outcome)
		}
		return err
	})
	b.add(loadGet, func(ctx context.Context, caller int) error {
		counts[caller]++
		key := events.Key(benchKey(counts[caller]))
		_, err := client.Get(ctx, events.UserID(benchUser(caller)), key)
		if errors.Is(err, backend.ErrNotFound) {
			return nil // of a short run: not all keys were written
		}
		return err
	})
	return nil
}

func (b *bench) backend(n *node) (*backend.Client, error) {
	if b.remote() {
		return b.client.open()
	}
	s, err := newSelfSigned(n.settings.data)
	if err != nil {
		return nil, err
	}
	return backend.New(backend.Options{URL: n.backendURL, Token: s.token, RetryFor: -1, HTTPClient: benchHTTP(b.callers)})
}

// benchHTTP returns a client that keeps a connection for each caller.
func benchHTTP(callers int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConns: callers, MaxIdleConnsPerHost: callers}}
}
