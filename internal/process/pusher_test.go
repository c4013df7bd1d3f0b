package process_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// pusher is a device of its own user that pushes one put after the other and goes on
// from what it is told. It is for one goroutine.
type pusher struct {
	rpc    dalvdbv1connect.ReplicaServiceClient
	user   events.UserID
	device string

	seq   int64
	after []byte
	at    *dalvdbv1.Position
}

// toNode is where devices find the node, as clients do.
const toNode = "http://devices:1"

// newPushers returns devices with tokens of the node, which push to it or to an echo.
func newPushers(b *testing.B, n *node, url, name string, count int, h2 bool) []*pusher {
	b.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: count}
	if url == toNode {
		tr.DialContext = n.dial
	}
	if h2 {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	b.Cleanup(tr.CloseIdleConnections)
	c, all := newClients(n), make([]*pusher, count)
	for i := range all {
		user := events.UserID(fmt.Sprintf("%s-%d", name, i))
		over := &http.Client{Transport: &bearer{tr, c.userToken(user)}}
		all[i] = &pusher{rpc: dalvdbv1connect.NewReplicaServiceClient(over, url), user: user, device: uuid.NewString()}
	}
	return all
}

// pushedKeys is how many keys a device writes, one after the other.
const pushedKeys = 100

func pushedKey(n int64) events.Key { return events.Key(fmt.Sprintf("key/%02d", n%pushedKeys)) }

var pushedValue = events.Text(strings.Repeat("v", 100))

// push pushes, and returns where the verdict stands.
func (d *pusher) push(ctx context.Context) (*dalvdbv1.Position, error) {
	d.seq++
	id := uuid.New()
	res, err := d.rpc.Sync(ctx, connect.NewRequest(&dalvdbv1.SyncRequest{
		UserId: string(d.user), DeviceId: d.device, Position: d.at,
		Push: &dalvdbv1.Push{Seq: d.seq, Id: id[:], After: d.after, Ops: []*dalvdbv1.Op{{
			Key: string(pushedKey(d.seq)), Kind: &dalvdbv1.Op_Put{Put: &dalvdbv1.Put{Value: wire.EncodeValue(pushedValue)}},
		}}},
	}))
	if err != nil {
		return nil, err
	}
	v := res.Msg.GetVerdict()
	if v.GetOutcome() != dalvdbv1.Outcome_OUTCOME_ACCEPTED || len(res.Msg.GetChanges()) != 1 {
		return nil, fmt.Errorf("a push was answered with %v", res.Msg)
	}
	d.after, d.at = id[:], res.Msg.GetPosition()
	return v.GetPosition(), nil
}

// pushedRecord is what the log keeps of a push.
func pushedRecord(user events.UserID, device string, seq int64) ([]byte, error) {
	return events.EncodeRecord(&events.Record{FoldVersion: 1, Event: &events.Event{
		User: user, Writer: events.Writer{Kind: events.WriterDevice, ID: device},
		Push: events.Push{Seq: seq, ID: events.PushID(uuid.New()), After: events.PushID(uuid.New())},
		Time: events.TimeOf(time.Now()), Ops: []events.Op{events.Put(pushedKey(seq), pushedValue)},
	}})
}
