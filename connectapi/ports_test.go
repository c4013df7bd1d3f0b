package connectapi_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/events"
)

// Probes and metrics answer on the backend port without a token, and say why a
// node is not ready.
func TestProbes(t *testing.T) {
	var notReady atomic.Pointer[string]
	n := newNode(t, func(c *connectapi.Config) {
		c.Ready = func() error {
			if s := notReady.Load(); s != nil {
				return errors.New(*s)
			}
			return nil
		}
	})
	want := func(path string, status int, text string) {
		t.Helper()
		if got, body := get(t, n, backendURL+path, ""); got != status || !strings.Contains(body, text) {
			t.Errorf("%s: %d %s", path, got, body)
		}
	}
	want("/livez", http.StatusOK, "ok")
	want("/readyz", http.StatusOK, "ok")
	want("/metrics", http.StatusOK, "")
	health(t, n, deviceURL, `"SERVING_STATUS_SERVING"`)
	why := "catching up"
	notReady.Store(&why)
	want("/livez", http.StatusOK, "ok")
	want("/readyz", http.StatusServiceUnavailable, why)
	health(t, n, deviceURL, `"SERVING_STATUS_NOT_SERVING"`)
	notReady.Store(nil)
	n.api.Drain()
	want("/readyz", http.StatusServiceUnavailable, "stopping")
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/backup"} {
		if got, _ := get(t, n, deviceURL+path, ""); got != http.StatusNotFound {
			t.Errorf("the device port answers %s with %d", path, got)
		}
	}
}

// health asks the health service, as JSON over Connect.
func health(t *testing.T, n *node, url, want string) {
	t.Helper()
	_, _, body := post(t, n.network.client(false), url+"/grpc.health.v1.Health/Check", "", "application/json", []byte("{}"))
	if !strings.Contains(string(body), want) {
		t.Errorf("health: %s, want %s", body, want)
	}
}

// Health and reflection answer on both ports without a token, and each port
// shows its own service only.
func TestHealthAndReflection(t *testing.T) {
	n := newNode(t)
	for url, names := range map[string][2]string{
		deviceURL:  {dalvdbv1connect.ReplicaServiceName, dalvdbv1connect.BackendServiceName},
		backendURL: {dalvdbv1connect.BackendServiceName, dalvdbv1connect.ReplicaServiceName},
	} {
		health(t, n, url, `SERVING`)
		_, _, body := post(t, n.network.client(false), url+"/grpc.health.v1.Health/Check", "", "application/json", []byte(`{"service":"`+names[0]+`"}`))
		if !strings.Contains(string(body), "SERVING") {
			t.Errorf("%s: %s", names[0], body)
		}
		_, _, body = post(t, n.network.client(false), url+"/grpc.health.v1.Health/Check", "", "application/json", []byte(`{"service":"`+names[1]+`"}`))
		if !strings.Contains(string(body), "not_found") {
			t.Errorf("%s: %s", names[1], body)
		}
		stream := grpcreflect.NewClient(n.network.client(true), url, connect.WithGRPC()).NewStream(t.Context())
		services, err := stream.ListServices()
		must(t, err)
		if text := fmt.Sprint(services); !strings.Contains(text, names[0]) || strings.Contains(text, names[1]) {
			t.Errorf("reflection lists %v", services)
		}
		files, err := stream.FileContainingSymbol("dalvdb.v1.Verdict")
		must(t, err)
		if len(files) == 0 {
			t.Error("no schema")
		}
		_, err = stream.Close()
		must(t, err)
		for _, version := range []string{"v1", "v1alpha"} {
			status, _, _ := post(t, n.network.client(false), url+"/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo", "", "application/json", nil)
			if status == http.StatusNotFound {
				t.Errorf("no reflection %s", version)
			}
		}
	}
}

// Scripts of a configured origin may call the device port, others not, and
// nobody's the backend port.
func TestCORS(t *testing.T) {
	n := newNode(t, func(c *connectapi.Config) { c.CORSOrigins = []string{"https://app.example"} })
	preflight := func(url, origin string) http.Header {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, url, nil)
		must(t, err)
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "POST")
		req.Header.Set("Access-Control-Request-Headers", "authorization,connect-protocol-version,content-type,traceparent,tracestate")
		res, err := n.network.client(false).Do(req)
		must(t, err)
		must(t, res.Body.Close())
		return res.Header
	}
	const allow = "Access-Control-Allow-Origin"
	h := preflight(deviceURL+dalvdbv1connect.ReplicaServiceSyncProcedure, "https://app.example")
	if h.Get(allow) != "https://app.example" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "authorization") {
		t.Errorf("got %v", h)
	}
	if h := preflight(deviceURL+dalvdbv1connect.ReplicaServiceSyncProcedure, "https://evil.example"); h.Get(allow) != "" {
		t.Errorf("got %v", h)
	}
	if h := preflight(backendURL+dalvdbv1connect.BackendServiceGetProcedure, "https://app.example"); h.Get(allow) != "" {
		t.Errorf("got %v", h)
	}
	// The error of a request without a token can be read by the script.
	_, header, _ := post(t, n.network.client(false), deviceURL+dalvdbv1connect.ReplicaServiceSyncProcedure, "", "application/json", []byte("{}"), "Origin", "https://app.example")
	if header.Get(allow) != "https://app.example" || !strings.Contains(strings.ToLower(header.Get("Access-Control-Expose-Headers")), "x-request-id") {
		t.Errorf("got %v", header)
	}
}

// Backups that end, fail before the first byte, and fail on the way.
type backups func(ctx context.Context, w io.Writer) error

func (b backups) Backup(ctx context.Context, w io.Writer) error { return b(ctx, w) }

func TestBackup(t *testing.T) {
	content := bytes.Repeat([]byte("tar"), 1<<20)
	var fail error
	var after int
	n := newNode(t, func(c *connectapi.Config) {
		c.Backup = backups(func(_ context.Context, w io.Writer) error {
			for i := 0; i < len(content); i += 64 << 10 {
				if fail != nil && i >= after {
					return fail
				}
				if _, err := w.Write(content[i : i+64<<10]); err != nil {
					return err
				}
			}
			return nil
		})
	})
	shop := n.serviceToken(t, "shop")
	for _, h2 := range []bool{false, true} {
		fetch := func(token string) (status int, contentType string, body []byte, err error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, backendURL+"/backup", nil)
			must(t, err)
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := n.network.client(h2).Do(req)
			must(t, err)
			body, err = io.ReadAll(res.Body)
			must(t, res.Body.Close())
			return res.StatusCode, res.Header.Get("Content-Type"), body, err
		}
		fail = nil
		status, contentType, body, err := fetch(shop)
		if err != nil || status != http.StatusOK || contentType != "application/x-tar" || !bytes.Equal(body, content) {
			t.Errorf("%d %s, %d bytes, %v", status, contentType, len(body), err)
		}
		fail, after = fmt.Errorf("/secret/path is gone"), 1<<20
		if _, _, body, err := fetch(shop); err == nil {
			t.Errorf("a backup that failed after %d bytes looks whole", len(body))
		}
		after = 0
		status, _, body, err = fetch(shop)
		if err != nil || status != http.StatusInternalServerError || !bytes.Contains(body, []byte(`"internal"`)) || bytes.Contains(body, []byte("secret")) {
			t.Errorf("%d %s %v", status, body, err)
		}
		for name, token := range map[string]string{
			"read-only": n.token(t, auth.Identity{Role: auth.Backend, Service: "shop", ReadOnly: true}), "device": n.userToken(t, "ann"), "none": "",
		} {
			status, _, body, err := fetch(token)
			if err != nil || status/100 != 4 || bytes.Contains(body, []byte("tar")) {
				t.Errorf("%s: %d %s %v", name, status, body, err)
			}
		}
	}
	fail, after = errors.New("HEAD has made a backup"), 0
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, backendURL+"/backup", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+shop)
	res, err := n.network.client(false).Do(req)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", res.StatusCode)
	}
	none := newNode(t)
	if status, body := get(t, none, backendURL+"/backup", none.serviceToken(t, "shop")); status != http.StatusNotImplemented || !strings.Contains(body, "no backups") {
		t.Errorf("%d %s", status, body)
	}
}

// One backup at a time, and one that is abandoned makes room.
func TestBackupsAreBounded(t *testing.T) {
	started, abandoned := make(chan struct{}), make(chan struct{})
	n := newNode(t, func(c *connectapi.Config) {
		c.Backup = backups(func(ctx context.Context, w io.Writer) error {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return err
			}
			close(started)
			<-ctx.Done()
			close(abandoned)
			return ctx.Err()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, backendURL+"/backup", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+n.serviceToken(t, "shop"))
	res, err := n.network.client(false).Do(req)
	must(t, err)
	<-started
	if status, body := get(t, n, backendURL+"/backup", n.serviceToken(t, "shop")); status != http.StatusTooManyRequests || !strings.Contains(body, "RetryInfo") {
		t.Errorf("%d %s", status, body)
	}
	cancel()
	<-abandoned
	must(t, res.Body.Close())
}

// With TLS both protocols work, and h2 is what gRPC gets.
func TestTLS(t *testing.T) {
	n := newNode(t)
	cert, pool := selfSigned(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := connectapi.NewServer(n.api.ReplicaHandler(), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil)
	n.servers = append(n.servers, srv)
	n.network.serving.Go(func() { _ = srv.ServeTLS(l, "", "") })
	for _, h2 := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}, ForceAttemptHTTP2: h2}
		if !h2 {
			tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		t.Cleanup(tr.CloseIdleConnections)
		opts := []connect.ClientOption{connect.WithInterceptors(bearer(n.userToken(t, "ann")))}
		if h2 {
			opts = append(opts, connect.WithGRPC())
		}
		c := dalvdbv1connect.NewReplicaServiceClient(&http.Client{Transport: tr}, "https://"+l.Addr().String(), opts...)
		call(t, c.Sync, &dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "d"})
		tr.CloseIdleConnections()
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// What nobody expected is told without its text, and logged once, with the
// request's id; so is a panic, which ends its request alone.
func TestInternalErrors(t *testing.T) {
	var logged syncBuffer
	c := &core{submit: func(context.Context) (events.Decision, error) { return events.Decision{}, errors.New("secret") }}
	n := newBubble(t, c, func(cfg *connectapi.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	ask := func(id string) string {
		status, _, body := post(t, n.network.client(false), backendURL+dalvdbv1connect.BackendServiceUpdateProcedure, n.serviceToken(t, "shop"),
			"application/json", []byte(`{"user_id":"ann","request_id":"r"}`), "X-Request-Id", id)
		if status != http.StatusInternalServerError || !bytes.Contains(body, []byte(`"internal"`)) || bytes.Contains(body, []byte("secret")) {
			t.Errorf("%d %s", status, body)
		}
		return logged.take()
	}
	if text := ask("first"); strings.Count(text, "\n") != 1 || !strings.Contains(text, "first") || !strings.Contains(text, "secret") || !strings.Contains(text, "level=ERROR") {
		t.Errorf("logged\n%s", text)
	}
	c.submit = func(context.Context) (events.Decision, error) { panic("secret") }
	if text := ask("second"); !strings.Contains(text, "second") || !strings.Contains(text, "secret") || !strings.Contains(text, "stack=") {
		t.Errorf("logged\n%s", text)
	}
	// In UpdateMany too: the others get their verdicts.
	calls := 0
	c.submit = func(context.Context) (events.Decision, error) {
		if calls++; calls == 1 {
			panic("secret")
		}
		return events.Decision{Outcome: events.Accepted, Verdict: events.Verdict{Outcome: events.Accepted}}, nil
	}
	shop := n.backend(n.serviceToken(t, "shop"))
	res := call(t, shop.UpdateMany, &dalvdbv1.UpdateManyRequest{Updates: []*dalvdbv1.UpdateRequest{update("ann"), update("ann")}}).GetResults()
	if res[0].GetError().GetCode() != "internal" || res[1].GetVerdict().GetOutcome() != dalvdbv1.Outcome_OUTCOME_ACCEPTED {
		t.Errorf("got %v", res)
	}
}

// syncBuffer is a buffer for a logger.
type syncBuffer struct{ b atomic.Pointer[string] }

func (s *syncBuffer) Write(p []byte) (int, error) {
	for {
		old := s.b.Load()
		text := string(p)
		if old != nil {
			text = *old + text
		}
		if s.b.CompareAndSwap(old, &text) {
			return len(p), nil
		}
	}
}

// take returns what was written and begins anew.
func (s *syncBuffer) take() string {
	if t := s.b.Swap(nil); t != nil {
		return *t
	}
	return ""
}

func TestConfigValidate(t *testing.T) {
	_, err := connectapi.New(connectapi.Config{ReadTimeout: -1, SlowReaderMax: -1, StreamsMax: -1, CORSOrigins: []string{"app.example", "*", "https://app.example/path", "https://*.example"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Submitter", "State", "Verifier", "ReadTimeout", "SlowReaderMax", "StreamsMax", `"app.example"`, "/path", "*.example"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), `"*"`) {
		t.Errorf("%v", err)
	}
}
