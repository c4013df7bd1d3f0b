package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// newTestNode runs a node in this process; the test stops it.
func newTestNode(t *testing.T, s settings) *node {
	t.Helper()
	n, err := startNode(t.Context(), s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newTestClient returns a client that asks once, and a function that lets go of
// its connections.
func newTestClient(t *testing.T, n *node) (*backend.Client, func()) {
	t.Helper()
	s, err := newSelfSigned(n.settings.data)
	if err != nil {
		t.Fatal(err)
	}
	web := benchHTTP(64)
	c, err := backend.New(backend.Options{URL: n.backendURL, Token: s.token, RetryFor: -1, HTTPClient: web})
	if err != nil {
		t.Fatal(err)
	}
	return c, web.CloseIdleConnections
}

// A node is stopped while 32 callers write and four watch, and started again:
// what was acknowledged is there, what was not known is there once or not at all,
// and nothing of the node is left running.
func TestStopUnderLoad(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	n := newTestNode(t, s)
	client, letGo := newTestClient(t, n)

	load := newWriters(client, 32)
	var watchers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		watchers.Go(func() {
			for _, err := range client.Watch(ctx, events.FeedQuery{}) {
				if err != nil {
					return
				}
			}
		})
	}
	load.run(t)
	<-load.warm
	if err := n.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	load.wait()
	cancel()
	watchers.Wait()
	letGo()

	n = newTestNode(t, s)
	client, letGo = newTestClient(t, n)
	load.check(t, client)
	letGo()
	if err := n.stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

// writers write until the first error of each, and remember what they know.
type writers struct {
	client *backend.Client
	known  []int64 // by writer: increments that were acknowledged
	open   []bool  // the last one may have taken effect too
	all    sync.WaitGroup
	warm   chan struct{} // closed once enough was written
	once   sync.Once
	total  chan struct{}
}

const warmWrites = 500

func newWriters(client *backend.Client, count int) *writers {
	return &writers{
		client: client, known: make([]int64, count), open: make([]bool, count),
		warm: make(chan struct{}), total: make(chan struct{}, warmWrites),
	}
}

func writerUser(i int) events.UserID { return events.UserID(fmt.Sprintf("user-%d", i)) }

func (w *writers) run(t *testing.T) {
	for i := range w.known {
		w.all.Go(func() {
			for {
				v, err := w.client.Update(t.Context(), writerUser(i), backend.Update{Ops: []events.Op{events.Increment("n", 1)}})
				if err != nil {
					w.open[i] = errors.Is(err, events.ErrUnknownOutcome)
					return
				}
				if v.Outcome != events.Accepted {
					t.Errorf("writer %d: %v", i, v.Outcome)
					return
				}
				w.known[i]++
				select {
				case w.total <- struct{}{}:
				default:
					w.once.Do(func() { close(w.warm) })
				}
			}
		})
	}
}

func (w *writers) wait() { w.all.Wait() }

func (w *writers) check(t *testing.T, client *backend.Client) {
	t.Helper()
	for i, known := range w.known {
		e, err := client.Get(t.Context(), writerUser(i), "n")
		if err != nil {
			t.Fatalf("writer %d: %v", i, err)
		}
		v, _ := e.Value()
		atMost := known
		if w.open[i] {
			atMost++
		}
		if v.Number() < known || v.Number() > atMost {
			t.Errorf("writer %d: %d, want %d to %d", i, v.Number(), known, atMost)
		}
	}
}

// A start that fails in the middle leaves nothing open: the next one succeeds.
func TestFailedStartLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	bad := s
	bad.backendListen = taken.Addr().String()
	if _, err := startNode(t.Context(), bad, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("two servers on one port")
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := newTestNode(t, s).stop(); err != nil {
		t.Error(err)
	}
}

// Who is asked to end before all is open ends in good order too.
func TestAskedToEndWhileStarting(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := temporarySettings(filepath.Join(t.TempDir(), "data"))
	for step := range 8 {
		n := newNode(s, slog.New(slog.DiscardHandler))
		ctx := &endsAfter{Context: t.Context(), steps: step}
		if err := n.run(ctx, func() error { return errors.New("all was open") }); err != nil {
			t.Errorf("asked before step %d: %v", step, err)
		}
	}
}

// endsAfter is a context that ends when it has been asked so many times.
type endsAfter struct {
	context.Context
	steps int
}

func (c *endsAfter) Err() error {
	if c.steps--; c.steps < 0 {
		return context.Canceled
	}
	return nil
}

// A step that does not end is given up after its limit, and what follows is not
// closed under it.
func TestStopGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		began := time.Now()
		step := stopStep{name: "wait", limit: time.Minute, do: func(context.Context) error { <-release; return nil }}
		if err := step.take(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("after %v", took)
		}
		close(release)
	})
}

// With a certificate devices speak TLS, and backends too where the port is not
// on loopback; a certificate that is replaced is used for new connections.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	s := temporarySettings(filepath.Join(dir, "data"))
	s.tlsCert, s.tlsKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := writeCertificate(t, s, 1)
	n := newTestNode(t, s)
	defer func() {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	}()
	if !strings.HasPrefix(n.deviceURL, "https://") || !strings.HasPrefix(n.backendURL, "http://") {
		t.Fatalf("devices %s, backends %s", n.deviceURL, n.backendURL)
	}
	if got, err := serial(n.deviceURL, first); err != nil || got != 1 {
		t.Errorf("certificate %d, %v", got, err)
	}
	second := writeCertificate(t, s, 2)
	tick := time.NewTicker(reloadEvery / 10)
	defer tick.Stop()
	for late := time.After(patience); ; {
		got, err := serial(n.deviceURL, first, second)
		if err != nil {
			t.Fatal(err)
		}
		if got == 2 {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the new certificate is not used")
		}
	}
}

func TestTLSForBackendsBeyondLoopback(t *testing.T) {
	dir := t.TempDir()
	s := temporarySettings(filepath.Join(dir, "data"))
	s.tlsCert, s.tlsKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert := writeCertificate(t, s, 1)
	s.backendListen = ":0"
	n := newTestNode(t, s)
	got, err := serial(n.backendURL, cert)
	if err != nil || got != 1 {
		t.Errorf("%s: certificate %d, %v", n.backendURL, got, err)
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}

// writeCertificate makes a certificate for this machine in the files of s.
func writeCertificate(t *testing.T, s settings, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, kind string, der []byte) {
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(s.tlsKey, "PRIVATE KEY", keyDER)
	write(s.tlsCert, "CERTIFICATE", der)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// serial returns the serial number of the certificate that a URL answers with.
func serial(url string, trusted ...*x509.Certificate) (int64, error) {
	pool := x509.NewCertPool()
	for _, c := range trusted {
		pool.AddCert(c)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, err
	}
	return res.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
}
