package connectapi_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
)

// An rpc calls one procedure about the user ann, and returns its error.
type rpc func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error

//nolint:revive // the procedure first: it reads like the call
func unary[Req, Res any](f func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), ctx context.Context, m *Req) error {
	_, err := f(ctx, connect.NewRequest(m))
	return err
}

// first receives one message, which is all that is needed to know whether a
// stream was allowed.
//
//nolint:revive // the procedure first: it reads like the call
func first[Req, Res any](f func(context.Context, *connect.Request[Req]) (*connect.ServerStreamForClient[Res], error), ctx context.Context, m *Req) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := f(ctx, connect.NewRequest(m))
	if err != nil {
		return err
	}
	for s.Receive() {
		return s.Close()
	}
	return s.Err()
}

// position of ann, for Watch.
var annPosition *dalvdbv1.Position

var replicaRPCs = map[string]rpc{
	"Sync": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.device(token, opts...).Sync, ctx, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone"})
	},
	"Sync/push": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.device(token, opts...).Sync, ctx, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: push(1, put("a", "b")), DryRun: true})
	},
	"Snapshot": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return first(n.device(token, opts...).Snapshot, ctx, &dalvdbv1.ReplicaServiceSnapshotRequest{UserId: "ann"})
	},
	"Watch": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return first(n.device(token, opts...).Watch, ctx, &dalvdbv1.ReplicaServiceWatchRequest{UserId: "ann", DeviceId: "phone", Position: annPosition})
	},
}

var backendRPCs = map[string]rpc{
	"Get": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.backend(token, opts...).Get, ctx, &dalvdbv1.GetRequest{UserId: "ann", Key: "seed"})
	},
	"ListEntries": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.backend(token, opts...).ListEntries, ctx, &dalvdbv1.ListEntriesRequest{UserId: "ann"})
	},
	"Update": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.backend(token, opts...).Update, ctx, update("ann", put("canary", "x")))
	},
	"UpdateMany": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.backend(token, opts...).UpdateMany, ctx, &dalvdbv1.UpdateManyRequest{Updates: []*dalvdbv1.UpdateRequest{update("ann", put("canary", "x"))}})
	},
	"SetDomains": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.backend(token, opts...).SetDomains, ctx, &dalvdbv1.SetDomainsRequest{Patterns: []*dalvdbv1.DomainRule{{Pattern: "system/**", Domain: dalvdbv1.Domain_DOMAIN_SYSTEM}}})
	},
	"Snapshot": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return first(n.backend(token, opts...).Snapshot, ctx, &dalvdbv1.BackendServiceSnapshotRequest{UserId: "ann"})
	},
	"Watch": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return first(n.backend(token, opts...).Watch, ctx, &dalvdbv1.BackendServiceWatchRequest{})
	},
	"History": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return first(n.backend(token, opts...).History, ctx, &dalvdbv1.HistoryRequest{UserId: "ann"})
	},
	"ListUsers": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.backend(token, opts...).ListUsers, ctx, &dalvdbv1.ListUsersRequest{})
	},
	"GetDomains": func(ctx context.Context, n *node, token string, opts ...connect.ClientOption) error {
		return unary(n.backend(token, opts...).GetDomains, ctx, &dalvdbv1.GetDomainsRequest{})
	},
}

// writes are the procedures that a read-only token may not call.
var writes = []string{"Sync/push", "Update", "UpdateMany", "SetDomains"}

// Every procedure of the schema is in the tables above.
func TestEveryProcedureIsTried(t *testing.T) {
	for _, f := range []struct {
		tried map[string]rpc
		names []string
	}{
		{replicaRPCs, procedures(dalvdbv1.File_dalvdb_v1_replica_service_proto)},
		{backendRPCs, procedures(dalvdbv1.File_dalvdb_v1_backend_service_proto)},
	} {
		for _, name := range f.names {
			if f.tried[name] == nil {
				t.Errorf("%s is not tried", name)
			}
		}
	}
}

// Each procedure with each credential, over each protocol.
func TestEveryProcedureWithEveryCredential(t *testing.T) {
	reg := prometheus.NewRegistry()
	n := newNode(t, func(c *connectapi.Config) { c.Registry = reg })
	strange, err := auth.NewKey()
	must(t, err)
	shop := n.backend(n.serviceToken(t, "shop"))
	accepted(t, call(t, shop.Update, update("ann", put("seed", "1"))).GetVerdict())
	annPosition = call(t, shop.ListEntries, &dalvdbv1.ListEntriesRequest{UserId: "ann"}).GetPosition()

	hour := time.Now().Add(time.Hour)
	soon, past := time.Now(), time.Now().Add(-2*time.Hour)
	expired := func(who auth.Identity) string {
		who.Expires = soon
		tok, err := n.keys.Sign(who, past)
		must(t, err)
		return tok
	}
	forged := func(who auth.Identity) string {
		who.Expires = hour
		tok, err := auth.Keys{strange}.Sign(who, time.Now())
		must(t, err)
		return tok
	}
	ann := auth.Identity{Role: auth.Device, User: "ann"}
	service := auth.Identity{Role: auth.Backend, Service: "shop"}
	readOnly := auth.Identity{Role: auth.Backend, Service: "shop", ReadOnly: true}
	readOnlyAnn := auth.Identity{Role: auth.Device, User: "ann", ReadOnly: true}
	const ok, no, denied = connect.Code(0), connect.CodeUnauthenticated, connect.CodePermissionDenied

	for _, s := range []struct {
		rpcs  map[string]rpc
		creds []credential
	}{
		{replicaRPCs, []credential{
			{"none", "", no, no},
			{"garbage", "garbage", no, no},
			{"forged", forged(ann), no, no},
			{"expired", expired(ann), no, no},
			{"of another audience", n.token(t, service), no, no},
			{"of another user", n.userToken(t, "bob"), denied, denied},
			{"of a user that begins alike", n.userToken(t, "an"), denied, denied},
			{"read-only", n.token(t, readOnlyAnn), ok, denied},
			{"good", n.token(t, ann), ok, ok},
		}},
		{backendRPCs, []credential{
			{"none", "", no, no},
			{"garbage", "garbage", no, no},
			{"forged", forged(service), no, no},
			{"expired", expired(service), no, no},
			{"of another audience", n.userToken(t, "shop"), no, no},
			{"read-only", n.token(t, readOnly), ok, denied},
			{"good", n.token(t, service), ok, ok},
		}},
	} {
		for _, name := range slices.Sorted(maps.Keys(s.rpcs)) {
			for _, cred := range s.creds {
				want := cred.read
				if slices.Contains(writes, name) {
					want = cred.write
				}
				for protocol, opts := range protocols {
					err := s.rpcs[name](t.Context(), n, cred.token, opts...)
					if got := codeOf(err); got != want {
						t.Errorf("%s with a token %s over %s: got %v (%v), want %v", name, cred.name, protocol, got, err, want)
					}
				}
			}
		}
	}
	// Whoever was refused has left nothing behind: the good token alone wrote.
	h, err := shop.History(t.Context(), connect.NewRequest(&dalvdbv1.HistoryRequest{UserId: "ann"}))
	must(t, err)
	events := 0
	for h.Receive() {
		events++
	}
	must(t, h.Err())
	if want := 1 + 2*len(protocols); events != want { // seed, Update, UpdateMany
		t.Errorf("%d events stand in ann's log, want %d", events, want)
	}
	for reason, want := range map[auth.Reason]int{auth.Missing: 14, auth.UnknownKey: 14, auth.Expired: 14, auth.WrongAud: 14, auth.Malformed: 14} {
		got := 0
		for _, port := range []string{"device", "backend"} {
			got += int(counter(t, reg, "dalvdb_auth_failures_total", map[string]string{"port": port, "reason": string(reason)}))
		}
		if got != want*len(protocols) {
			t.Errorf("%d failures for %s were counted, want %d", got, reason, want*len(protocols))
		}
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n == 0 {
		t.Errorf("%d metrics, %v", n, err)
	}
}

// A credential is a token, and what it gets of reading and writing procedures.
type credential struct {
	name, token string
	read, write connect.Code
}

var protocols = map[string][]connect.ClientOption{
	"Connect": nil, "gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()},
}

// codeOf is 0 for no error.
func codeOf(err error) connect.Code {
	if err == nil {
		return 0
	}
	return connect.CodeOf(err)
}

// The token is looked at before the body: bytes that are no request do not get
// an opinion about them, nor do others than ours get to send large ones.
func TestAuthComesBeforeDecoding(t *testing.T) {
	n := newNode(t)
	c := n.network.client(false)
	for _, url := range []string{
		deviceURL + dalvdbv1connect.ReplicaServiceSyncProcedure, backendURL + dalvdbv1connect.BackendServiceUpdateProcedure,
	} {
		for _, ct := range []string{"application/json", "application/proto", "text/plain", ""} {
			body := &countingReader{r: endless{}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
			must(t, err)
			req.Header.Set("Content-Type", ct)
			res, err := c.Do(req)
			must(t, err)
			text, err := io.ReadAll(res.Body)
			must(t, err)
			must(t, res.Body.Close())
			if res.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), `"unauthenticated"`) {
				t.Errorf("%s %q: %d %s", url, ct, res.StatusCode, text)
			}
			if sent := body.n.Load(); sent > 32<<20 {
				t.Errorf("%s %q: %d bytes were taken", url, ct, sent)
			}
			if res.Header.Get("WWW-Authenticate") != "Bearer" || res.Header.Get("X-Request-Id") == "" {
				t.Errorf("headers %v", res.Header)
			}
		}
	}
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Tokens are found in the Authorization header alone, whatever the case of the
// scheme.
func TestBearer(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER  abc ": "abc", "Basic abc": "", "abc": "", "": "", "Bearer": "",
	} {
		if got := auth.Bearer(http.Header{"Authorization": {header}}); got != want {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
	}
}
