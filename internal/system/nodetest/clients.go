package nodetest

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// Token returns a credential for who, good for an hour unless who says otherwise.
func (n *Node) Token(t testing.TB, who auth.Identity) string {
	t.Helper()
	now := time.Now()
	if who.Expires.IsZero() {
		who.Expires = now.Add(time.Hour)
	}
	token, err := n.keys.Sign(who, now)
	must(t, err)
	return token
}

// UserToken returns the credential of a user's devices.
func (n *Node) UserToken(t testing.TB, user events.UserID) string {
	t.Helper()
	return n.Token(t, auth.Identity{Role: auth.Device, User: user})
}

// ServiceToken returns the credential of a service.
func (n *Node) ServiceToken(t testing.TB, service string) string {
	t.Helper()
	return n.Token(t, auth.Identity{Role: auth.Backend, Service: service})
}

// DeviceURL is the device port, for the clients of HTTP.
func (n *Node) DeviceURL() string { return n.scheme() + deviceHost }

// BackendURL is the backend port, for the clients of HTTP.
func (n *Node) BackendURL() string { return n.scheme() + backendHost }

func (n *Node) scheme() string {
	if n.certificate != nil {
		return "https://"
	}
	return "http://"
}

// HTTP is a version of HTTP.
type HTTP bool

// The versions.
const (
	HTTP1 HTTP = false
	HTTP2 HTTP = true // without TLS by prior knowledge
)

// Client returns an HTTP client of its own that finds the node wherever it is.
func (n *Node) Client(v HTTP) *http.Client { return &http.Client{Transport: n.Transport(v)} }

// Transport returns what carries the requests of Client.
func (n *Node) Transport(v HTTP) *http.Transport {
	p := new(http.Protocols)
	tr := &http.Transport{Protocols: p, DialContext: n.dial, MaxIdleConnsPerHost: 64}
	p.SetHTTP1(v == HTTP1)
	if n.certificate == nil {
		p.SetUnencryptedHTTP2(v == HTTP2)
	} else {
		p.SetHTTP2(v == HTTP2)
		roots := x509.NewCertPool()
		roots.AddCert(n.certificate.Leaf)
		tr.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	n.mu.Lock()
	n.transports = append(n.transports, tr)
	n.mu.Unlock()
	return tr
}

func (n *Node) closeIdle() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, tr := range n.transports {
		tr.CloseIdleConnections()
	}
}

// Replicas returns a client of ReplicaService with a token.
func (n *Node) Replicas(c connect.HTTPClient, token string, opts ...connect.ClientOption) dalvdbv1connect.ReplicaServiceClient {
	opts = append(opts, connect.WithReadMaxBytes(events.AnswerBytesMax))
	return dalvdbv1connect.NewReplicaServiceClient(bearer{c, token}, n.DeviceURL(), opts...)
}

// Backends returns a client of BackendService with a token.
func (n *Node) Backends(c connect.HTTPClient, token string, opts ...connect.ClientOption) dalvdbv1connect.BackendServiceClient {
	opts = append(opts, connect.WithReadMaxBytes(events.AnswerBytesMax))
	return dalvdbv1connect.NewBackendServiceClient(bearer{c, token}, n.BackendURL(), opts...)
}

// Service returns a client of the Go SDK for a service. It asks once, unless
// change says otherwise.
func (n *Node) Service(t testing.TB, service string, change ...func(*backend.Options)) *backend.Client {
	t.Helper()
	o := backend.Options{
		URL: n.BackendURL(), Token: backend.StaticToken(n.ServiceToken(t, service)), HTTPClient: n.Client(HTTP1), RetryFor: -1,
	}
	for _, f := range change {
		f(&o)
	}
	c, err := backend.New(o)
	must(t, err)
	return c
}

// bearer sends a token with each request; an empty one is none.
type bearer struct {
	next  connect.HTTPClient
	token string
}

// Do implements connect.HTTPClient.
func (b bearer) Do(req *http.Request) (*http.Response, error) {
	if b.token != "" {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.Do(req)
}
