package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// everyCall is a command line of each verb that speaks to a node.
var everyCall = [][]string{
	{"get", "ann", "theme"},
	{"put", "ann", "theme", "dark"},
	{"ls", "ann"},
	{"users"},
	{"history", "ann"},
	{"domains"},
	{"domains", "set", "--none"},
	{"export", "ann"},
	{"backup", "-"},
	{"watch"},
}

// tryAll runs every verb against a server, and wants of all the same.
func tryAll(t *testing.T, url string, code int, say string, flags ...string) {
	t.Helper()
	for _, args := range everyCall {
		args = append(append(args, "--url", url, "--token", "t"), flags...)
		got, stdout, stderr := command(args...)
		if got != code || !strings.Contains(stderr, say) {
			t.Errorf("%v: code %d, want %d; %q is to be in %s", args, got, code, say, stderr)
		}
		if stdout != "" {
			t.Errorf("%v: stdout %q", args, stdout)
		}
	}
}

// A server that takes requests and says nothing is given up after --timeout.
func TestAServerThatNeverAnswers(t *testing.T) {
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	defer server.Close()
	defer close(over)
	tryAll(t, server.URL, exitUnavailable, "no answer from "+server.URL+" within 20ms", "--timeout", "20ms")
}

// A stream that stops in the middle is given up too, and what it is written to
// does not appear.
func TestABackupThatStops(t *testing.T) {
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("the beginning"))
		_ = http.NewResponseController(w).Flush()
		<-over
	}))
	defer server.Close()
	defer close(over)
	file := filepath.Join(t.TempDir(), "b.tar")
	code, _, stderr := command("backup", file, "--url", server.URL, "--token", "t", "--timeout", "20ms")
	if code != exitUnavailable || !strings.Contains(stderr, "no answer from") {
		t.Errorf("code %d: %s", code, stderr)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A connection that is reset may be good the next time.
func TestAConnectionThatIsReset(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}))
	defer server.Close()
	tryAll(t, server.URL, exitUnavailable, "unavailable", "--timeout", "0")
}

// Who is not who was meant is told as such, at once, and never as a write that
// may have taken effect.
func TestAnotherServerThanMeant(t *testing.T) {
	secret := httptest.NewUnstartedServer(http.NotFoundHandler())
	secret.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // handshakes fail, as they should
	secret.StartTLS()
	defer secret.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, tt := range []struct {
		url  string
		code int
		say  string
	}{
		{secret.URL, exitFailed, "the certificate of " + secret.URL + " is not trusted: x509: "},
		{secret.URL, exitFailed, "SSL_CERT_FILE"},
		{"https" + strings.TrimPrefix(plain.URL, "http"), exitUsage, "does --url want http://?"},
		{"http" + strings.TrimPrefix(secret.URL, "https"), exitUsage, "does --url want https://?"},
		{plain.URL, exitUsage, "is --url a backend port of a node?"},
	} {
		t.Run(tt.say, func(t *testing.T) {
			for _, args := range everyCall {
				code, _, stderr := command(append(args, "--url", tt.url, "--token", "t", "--timeout", "1m")...)
				if !strings.Contains(stderr, tt.say) {
					t.Errorf("%v: %q is not in %s", args, tt.say, stderr)
				}
				sent := strings.HasSuffix(tt.say, "https://?") && args[0] == "put" // by whom it was read is not known
				if !sent && (code != tt.code || strings.Contains(stderr, "outcome unknown")) {
					t.Errorf("%v: code %d, want %d: %s", args, code, tt.code, stderr)
				}
			}
		})
	}
}

func TestATokenThatIsNone(t *testing.T) {
	for _, token := range []string{"a\nb", "a b", "ä"} {
		code, _, stderr := command("get", "ann", "theme", "--url", "http://127.0.0.1:1", "--token", token)
		if code != exitUsage || !strings.Contains(stderr, "--token: ") || strings.Contains(stderr, token) {
			t.Errorf("%q: code %d: %s", token, code, stderr)
		}
	}
}

// Who interrupts a command is told no more than that; of a write, how to ask.
func TestInterrupted(t *testing.T) {
	over := make(chan struct{})
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-over
	}))
	defer server.Close()
	defer close(over)
	for verb, want := range map[string]string{"get ann theme": "interrupted", "put ann theme dark": "): interrupted\nIt may have taken effect"} {
		ctx, cancel := context.WithCancel(t.Context())
		root := newRoot(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, nil)
		root.SetArgs(append(strings.Fields(verb), "--url", server.URL, "--token", "t"))
		go func() {
			<-asked
			cancel()
		}()
		if err := root.ExecuteContext(ctx); err == nil || !strings.Contains(describe(err), want) {
			t.Errorf("%s: %v", verb, err)
		}
		cancel()
	}
}

// An address that is none is told in the same words by every verb.
func TestAURLThatIsNone(t *testing.T) {
	for _, url := range []string{"127.0.0.1:7470", "localhost:7470", "nowhere", "ftp://127.0.0.1:7470", "http://", "http://[::1"} {
		tryAll(t, url, exitUsage, `dalvdb: --url: backend url "`+url+`": want http://HOST:PORT or https://HOST:PORT`+"\n", "--timeout", "1s")
	}
}

// Of a token that is refused it is told where it came from: it may be one of last
// week that stands in the environment.
func TestATokenThatIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"code":"unauthenticated","message":"token has expired"}`))
	}))
	defer server.Close()
	dir := t.TempDir()
	if _, err := readOrMakeKeys(dir); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte("token: t"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ flag, value, environment, say string }{
		{"--token", "t", "e", "the token is that of --token"},
		{"--timeout", "0", "e", "the token is from environment DALVDB_TOKEN"},
		{"--config", config, "e", "the token is from environment DALVDB_TOKEN"},
		{"--config", config, "", "the token is from configuration " + config},
		{"--data", dir, "e", "the token is signed with the key in " + dir},
	} {
		t.Run(tt.flag+tt.environment, func(t *testing.T) {
			t.Setenv("DALVDB_TOKEN", tt.environment)
			for _, args := range everyCall {
				code, stdout, stderr := command(append(args, "--url", server.URL, tt.flag, tt.value)...)
				if code != exitDenied || stdout != "" || !strings.HasPrefix(stderr, "dalvdb: unauthenticated: ") ||
					!strings.HasSuffix(stderr, "\n"+tt.say+"\n") {
					t.Errorf("%v: code %d, stdout %q, stderr %q, want %q", args, code, stdout, stderr, tt.say)
				}
			}
		})
	}
}

// stocked is a node that sends what a user has, and a backup.
type stocked struct {
	dalvdbv1connect.UnimplementedBackendServiceHandler
}

func (stocked) Snapshot(
	_ context.Context, _ *connect.Request[dalvdbv1.BackendServiceSnapshotRequest],
	stream *connect.ServerStream[dalvdbv1.BackendServiceSnapshotResponse],
) error {
	e := events.Entry{Key: "note", Version: 1, Values: []events.Value{events.Text(strings.Repeat("x", 10_000))}}
	return stream.Send(&dalvdbv1.BackendServiceSnapshotResponse{Entries: []*dalvdbv1.Entry{wire.EncodeEntry(e)}})
}

// What cannot be written here is told once, and as that.
func TestAFullOutput(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle(dalvdbv1connect.NewBackendServiceHandler(stocked{}))
	mux.HandleFunc("/backup", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(testTar(t)) })
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, line := range []string{"export ann", "backup -"} {
		var complaints bytes.Buffer
		args := append(strings.Fields(line), "--url", server.URL, "--token", "t")
		code := execute(args, streams{in: strings.NewReader(""), out: &full{room: 100}, err: &complaints})
		if want := "dalvdb: " + errFull.Error() + "\n"; code != exitFailed || complaints.String() != want {
			t.Errorf("%s: code %d, %q, want %q", line, code, complaints.String(), want)
		}
	}
}
