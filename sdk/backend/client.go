package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
)

// Options say how to reach a node.
type Options struct {
	// URL of the node's backend port, such as http://127.0.0.1:7470. Required.
	URL string

	// Token returns the credential, a JWT of audience dalvdb/backend. It is asked
	// before every attempt, by many goroutines at once, so it should remember
	// what it has until that expires. An error of it is tried again as an
	// unavailable node is. See StaticToken. Nil sends none.
	Token func(ctx context.Context) (string, error)

	// HTTPClient carries the requests. Nil is a client of its own over HTTP/1.1,
	// or HTTP/2 with TLS, that keeps a connection for each call under way. It
	// must not set a Timeout, which would cut streams.
	HTTPClient connect.HTTPClient

	// RetryFor is how long a call goes on asking while the node is unavailable.
	// Zero is 30 seconds; a negative one asks once.
	RetryFor time.Duration

	// OnRetry, if not nil, hears of each failed attempt that will be followed by
	// another one after wait. It must return soon.
	OnRetry func(err error, wait time.Duration)
}

const (
	retryForDefault = 30 * time.Second

	// attemptMax bounds one attempt at a call that is not a stream: a node answers
	// or gives up much earlier, so what is behind it is a dead connection.
	attemptMax = 45 * time.Second

	// silenceMax bounds the wait for a message of a watch: a node sends bookmarks
	// every ten seconds.
	silenceMax = 35 * time.Second

	// connsIdleMax is how many connections wait for their next call.
	connsIdleMax = 256
)

// A Client speaks to one node.
type Client struct {
	rpc      dalvdbv1connect.BackendServiceClient
	retryFor time.Duration // 0: no retries
	onRetry  func(error, time.Duration)
}

// New returns a client. It does not connect yet.
func New(o Options) (*Client, error) {
	// What does not parse is most often HOST:PORT alone, of which the parser would
	// say something about colons.
	u, err := url.Parse(o.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("backend url %q: want http://HOST:PORT or https://HOST:PORT", o.URL)
	}
	if o.HTTPClient == nil {
		o.HTTPClient = newHTTPClient()
	}
	c := &Client{retryFor: o.RetryFor, onRetry: o.OnRetry}
	switch {
	case o.RetryFor == 0:
		c.retryFor = retryForDefault
	case o.RetryFor < 0:
		c.retryFor = 0
	}
	c.rpc = dalvdbv1connect.NewBackendServiceClient(carrier{next: o.HTTPClient, token: o.Token}, o.URL,
		connect.WithReadMaxBytes(events.AnswerBytesMax))
	return c, nil
}

func newHTTPClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns = connsIdleMax
	t.MaxIdleConnsPerHost = connsIdleMax
	// A connection whose other end has vanished is noticed on HTTP/2 too.
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	return &http.Client{Transport: t}
}

// StaticToken returns an Options.Token that always answers the same.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// carrier puts the token on every request, and tells an answer that broke off
// from one that is wrong.
type carrier struct {
	next  connect.HTTPClient
	token func(context.Context) (string, error)
}

// Do implements connect.HTTPClient.
func (c carrier) Do(req *http.Request) (*http.Response, error) {
	if c.token != nil {
		token, err := c.token(req.Context())
		if err != nil {
			return nil, &tokenError{err}
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.next.Do(req)
	if err == nil {
		res.Body = body{res.Body}
	}
	return res, err
}

// body is that of an answer.
type body struct{ io.ReadCloser }

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &brokenError{err}
	}
	return n, err
}

// A tokenError says that there was no token: nothing has been sent.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return "token: " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

// A brokenError says that an answer broke off.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }
