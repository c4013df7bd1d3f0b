package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// demoUser is whose data it is all about.
const demoUser events.UserID = "ann"

// demoDevice is a device: a directory as "dalvdb replica" keeps it. Its replica is
// opened for each thing it does, so that what it knows is what is on its disk.
type demoDevice struct {
	name  string
	store *storeFlag
	link  connection // its URL is that of the node of the moment
	wire  *demoWire
}

// demoRules are what the application says of conflicts.
var demoRules = []replica.Rule{
	{Pattern: "prefs", Resolve: replica.MergeJSON},
	{Pattern: "cart", Resolve: replica.UnionList},
}

func (d *demo) newDevice(name string) (*demoDevice, error) {
	dev := &demoDevice{name: name, store: &storeFlag{app: d.app, dir: filepath.Join(d.dir, name)}, wire: newDemoWire()}
	if err := os.Mkdir(dev.store.dir, 0o700); err != nil {
		return nil, err
	}
	token, err := d.sign(auth.Identity{Role: auth.Device, User: demoUser})
	dev.link = connection{User: demoUser, Token: token}
	return dev, err
}

// sign makes a credential with the node's key, as "dalvdb token" does.
func (d *demo) sign(who auth.Identity) (string, error) {
	keys, err := readSigningKeys(d.node.data)
	if err != nil {
		return "", err
	}
	now := time.Now()
	who.Expires = now.Add(24 * time.Hour)
	return keys.Sign(who, now)
}

// service returns a client of the node for a service of the application.
func (d *demo) service(name, url string) (*backend.Client, error) {
	token, err := d.sign(auth.Identity{Role: auth.Backend, Service: name})
	if err != nil {
		return nil, err
	}
	return backend.New(backend.Options{URL: url, Token: backend.StaticToken(token)})
}

// demoWrite lets a service write, which must be accepted.
func demoWrite(ctx context.Context, c *backend.Client, ops ...events.Op) (events.Position, error) {
	v, err := c.Update(ctx, demoUser, backend.Update{Ops: ops})
	if err == nil && v.Outcome != events.Accepted {
		err = fmt.Errorf("the write of a service was %v", v.Outcome)
	}
	return v.Position, err
}

// offline opens the replica with no address: it has no way to the server.
func (v *demoDevice) offline(do func(*replica.Replica) error) error { return v.open("", do) }

// sync syncs with a node, and returns what went over the wire.
func (v *demoDevice) sync(ctx context.Context, url string) ([]*exchange, error) {
	v.link.URL = url
	if err := v.store.saveConnection(v.link); err != nil {
		return nil, err
	}
	v.wire.take()
	err := v.open(url, func(r *replica.Replica) error { return r.Sync(ctx) })
	if err != nil {
		err = fmt.Errorf("the %s: %w", v.name, err)
	}
	return v.wire.take(), err
}

func (v *demoDevice) open(url string, do func(*replica.Replica) error) error {
	link := v.link
	link.URL = url
	defer v.wire.next.CloseIdleConnections()
	return v.store.open(link, do, func(c *replica.Config) { c.HTTPClient, c.Rules = v.wire, demoRules })
}

// edit makes an edit with no network.
func (v *demoDevice) edit(edits ...func(*replica.Tx)) error {
	return v.offline(func(r *replica.Replica) error {
		for _, edit := range edits {
			_, err := r.Update(func(tx *replica.Tx) error {
				edit(tx)
				return nil
			})
			if err != nil {
				return fmt.Errorf("the %s: %w", v.name, err)
			}
		}
		return nil
	})
}

// shows returns an error unless a key of the device holds what is wanted.
func (v *demoDevice) shows(key events.Key, want ...events.Value) error {
	return v.offline(func(r *replica.Replica) error {
		e, _, err := r.Get(key)
		if err == nil && !slices.Equal(e.Values, want) {
			err = fmt.Errorf("the %s has %s = [%s], want [%s]", v.name, key, cellOf(e.Values), cellOf(want))
		}
		return err
	})
}

// alike returns how many keys there are, and an error unless the server and all of
// the devices hold the same, key by key, with the same versions.
func (d *demo) alike(ctx context.Context, devices ...*demoDevice) (keys int, err error) {
	c, err := d.service(serviceOfCLI, d.node.told.Backends)
	if err != nil {
		return 0, err
	}
	server := map[events.Key]events.Entry{}
	for e, err := range c.Entries(ctx, demoUser, backend.EntriesQuery{}) {
		if err != nil {
			return 0, err
		}
		server[e.Key] = e.Entry
	}
	for _, dev := range devices {
		err = errors.Join(err, dev.offline(func(r *replica.Replica) error {
			mine, err := r.Entries(replica.Range{})
			if err == nil && len(mine) != len(server) {
				err = fmt.Errorf("the %s has %d keys, the server %d", dev.name, len(mine), len(server))
			}
			for _, e := range mine {
				if s := server[e.Key]; err == nil && (e.Pending || e.Synced.Version != s.Version || !slices.Equal(e.Values, s.Values)) {
					err = fmt.Errorf("the %s has %s = [%s] at %d, the server [%s] at %d",
						dev.name, e.Key, cellOf(e.Values), e.Synced.Version, cellOf(s.Values), s.Version)
				}
			}
			return err
		}))
	}
	return len(server), err
}
