package process_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// clients makes clients of one node, which find it again when it was restarted.
type clients struct {
	tb   testing.TB
	node *node
	h1   *http.Transport // a connection for each call under way
	h2   *http.Transport // one connection for all, without TLS
	keys auth.Keys
}

// newClients needs the node's keys, so that it must have been started once.
func newClients(n *node) *clients {
	keys, err := auth.ReadKeys(filepath.Join(n.data, "keys"))
	if err != nil {
		n.tb.Fatal(err)
	}
	c := &clients{tb: n.tb, node: n, keys: keys}
	c.h1 = &http.Transport{DialContext: n.dial, MaxIdleConnsPerHost: 128}
	c.h2 = &http.Transport{DialContext: n.dial, Protocols: new(http.Protocols)}
	c.h2.Protocols.SetUnencryptedHTTP2(true)
	n.tb.Cleanup(func() {
		c.h1.CloseIdleConnections()
		c.h2.CloseIdleConnections()
	})
	return c
}

func (c *clients) token(who auth.Identity) string {
	c.tb.Helper()
	now := time.Now()
	who.Expires = now.Add(24 * time.Hour)
	token, err := c.keys.Sign(who, now)
	if err != nil {
		c.tb.Fatal(err)
	}
	return token
}

func (c *clients) userToken(u events.UserID) string {
	c.tb.Helper()
	return c.token(auth.Identity{Role: auth.Device, User: u})
}

func (c *clients) serviceToken(name string) string {
	c.tb.Helper()
	return c.token(auth.Identity{Role: auth.Backend, Service: name})
}

// forms are the ways to say the same thing on the wire. A caller has one, by its
// number.
var forms = []struct {
	name    string
	h2      bool
	options []connect.ClientOption
}{
	{"Connect, HTTP/1.1", false, nil},
	{"Connect, JSON", false, []connect.ClientOption{connect.WithProtoJSON()}},
	{"Connect, h2c", true, nil},
	{"gRPC", true, []connect.ClientOption{connect.WithGRPC()}},
	{"gRPC-Web", false, []connect.ClientOption{connect.WithGRPCWeb()}},
}

// bearer is an HTTP client with a credential.
type bearer struct {
	next  http.RoundTripper
	token string
}

func (b *bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(req)
}

func (c *clients) http(form int, token string) *http.Client {
	b := &bearer{c.h1, token}
	if forms[form%len(forms)].h2 {
		b.next = c.h2
	}
	return &http.Client{Transport: b}
}

func (c *clients) replica(form int, u events.UserID) dalvdbv1connect.ReplicaServiceClient {
	c.tb.Helper()
	return dalvdbv1connect.NewReplicaServiceClient(c.http(form, c.userToken(u)), "http://devices:1", forms[form%len(forms)].options...)
}

func (c *clients) backend(form int, service string) dalvdbv1connect.BackendServiceClient {
	c.tb.Helper()
	return dalvdbv1connect.NewBackendServiceClient(c.http(form, c.serviceToken(service)), "http://backends:1", forms[form%len(forms)].options...)
}

// sdk returns a client as applications have it. It waits out restarts.
func (c *clients) sdk(service string) *backend.Client {
	c.tb.Helper()
	client, err := backend.New(backend.Options{
		URL: "http://backends:1", HTTPClient: c.http(0, c.serviceToken(service)), RetryFor: patience,
	})
	if err != nil {
		c.tb.Fatal(err)
	}
	return client
}

// passes reports whether the same bytes are to be sent again after an error: it
// is not known whether they took effect, or the server asks to come back.
func passes(err error) bool {
	var told *connect.Error
	if !errors.As(err, &told) || !connect.IsWireError(err) {
		// Not from the server: the connection has ended, or our own patience.
		return !errors.Is(err, errTestEnded)
	}
	switch told.Code() {
	case connect.CodeUnavailable, connect.CodeCanceled, connect.CodeDeadlineExceeded:
		return true
	case connect.CodeResourceExhausted:
		return detail[*errdetails.RetryInfo](told) != nil
	}
	return false
}

// detail returns the first detail of a kind, or nothing.
func detail[T any](told *connect.Error) (none T) {
	for _, d := range told.Details() {
		if m, err := d.Value(); err == nil {
			if found, ok := m.(T); ok {
				return found
			}
		}
	}
	return none
}

// codeOf returns the code and the first detail of a kind that an error has.
func codeOf[T any](err error) (connect.Code, T) {
	var told *connect.Error
	var none T
	if !errors.As(err, &told) {
		return 0, none
	}
	return told.Code(), detail[T](told)
}

// brief bounds one call of a test that is not part of a load.
func brief(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("no answer in %v", patience))
	tb.Cleanup(cancel)
	return ctx
}
