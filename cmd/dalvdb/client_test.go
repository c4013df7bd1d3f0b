package main

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// forgetful is a node that takes writes and does not answer the first ones.
type forgetful struct {
	dalvdbv1connect.UnimplementedBackendServiceHandler
	silent int
	reqs   []*dalvdbv1.UpdateRequest
}

func (f *forgetful) Update(_ context.Context, r *connect.Request[dalvdbv1.UpdateRequest]) (*connect.Response[dalvdbv1.UpdateResponse], error) {
	f.reqs = append(f.reqs, r.Msg)
	if len(f.reqs) <= f.silent {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the outcome is not known: send the same request again"))
	}
	v := backend.Verdict{Outcome: events.Accepted, Position: events.Position{Log: events.LogID{1}, Offset: 7}}
	return connect.NewResponse(&dalvdbv1.UpdateResponse{Verdict: wire.EncodeVerdict(&v)}), nil
}

func (f *forgetful) url(t *testing.T) string {
	_, handler := dalvdbv1connect.NewBackendServiceHandler(f)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// command runs one command line in this process.
func command(args ...string) (code int, stdout, stderr string) {
	var out, complaints bytes.Buffer
	code = execute(args, streams{in: strings.NewReader(""), out: &out, err: &complaints})
	return code, out.String(), complaints.String()
}

// A write whose outcome is not known says so, and the command that it prints
// asks for the verdict of that write and not for another one.
func TestUnknownOutcomePrintsHowToAsk(t *testing.T) {
	tests := map[string][]string{
		"flags at the end":    {"put", "ann", "it's a key", "two words", "--token", "t", "--timeout", "0"},
		"flags before --":     {"put", "--token", "t", "--timeout", "0", "ann", "credit", "--as", "number", "--", "-5"},
		"named by the caller": {"incr", "ann", "n", "--request-id", "mine", "--token", "t", "--timeout", "0"},
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			f := &forgetful{silent: 1}
			args := append([]string{args[0], "--url", f.url(t)}, args[1:]...)
			code, stdout, stderr := command(args...)
			if code != exitUnavailable || stdout != "" {
				t.Fatalf("code %d, stdout %q", code, stdout)
			}
			id := f.reqs[0].GetRequestId()
			if !strings.Contains(stderr, id) {
				t.Errorf("the request id is not told: %s", stderr)
			}
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			again := shellWords(t, lines[len(lines)-1])
			if code, _, stderr := command(again[1:]...); code != exitDone {
				t.Fatalf("code %d: %s", code, stderr)
			}
			first, second := f.reqs[0], f.reqs[1]
			if first.String() != second.String() {
				t.Errorf("asked again with\n%v\nwas\n%v", second, first)
			}
		})
	}
}

// shellWords returns the words that a shell makes of a line.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `set -- `+line+`; for w in "$@"; do printf '%s\0' "$w"; done`).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

func TestDryRunIsNeverUnknown(t *testing.T) {
	f := &forgetful{silent: 1}
	code, _, stderr := command("put", "ann", "k", "v", "--dry-run", "--url", f.url(t), "--token", "t", "--timeout", "0")
	if code != exitUnavailable || strings.Contains(stderr, "repeat it") {
		t.Errorf("code %d: %s", code, stderr)
	}
}

func TestExitCodes(t *testing.T) {
	for code, want := range map[connect.Code]int{
		connect.CodeInvalidArgument: exitUsage, connect.CodeNotFound: exitNotFound,
		connect.CodeFailedPrecondition: exitRejected, connect.CodeUnauthenticated: exitDenied,
		connect.CodePermissionDenied: exitDenied, connect.CodeUnavailable: exitUnavailable,
		connect.CodeResourceExhausted: exitUsage, connect.CodeDeadlineExceeded: exitUnavailable,
		connect.CodeInternal: exitFailed, connect.CodeUnimplemented: exitFailed,
	} {
		if got := exitCode(connect.NewError(code, errors.New("x"))); got != want {
			t.Errorf("%v: %d, want %d", code, got, want)
		}
	}
	full := connect.NewError(connect.CodeResourceExhausted, errors.New("x"))
	if d, err := connect.NewErrorDetail(&errdetails.RetryInfo{}); err == nil {
		full.AddDetail(d)
	}
	if got := exitCode(full); got != exitUnavailable {
		t.Errorf("full for now: %d", got)
	}
	if got := exitCode(errors.New("x")); got != exitFailed {
		t.Errorf("any error: %d", got)
	}
}

// A credential from the environment does not beat a directory that was named.
func TestExplicitDirectoryBeatsTokenOfTheEnvironment(t *testing.T) {
	t.Setenv("DALVDB_TOKEN", "from-the-environment")
	f := &forgetful{}
	url := f.url(t)
	if code, _, stderr := command("incr", "ann", "n", "--url", url); code != exitDone {
		t.Errorf("code %d: %s", code, stderr)
	}
	missing := filepath.Join(t.TempDir(), "nothing")
	if code, _, stderr := command("incr", "ann", "n", "--url", url, "--data", missing); code != exitDenied || !strings.Contains(stderr, missing) {
		t.Errorf("code %d: %s", code, stderr)
	}
}

// The command to repeat is printed where others read it too.
func TestAgainDoesNotRepeatTheToken(t *testing.T) {
	for _, args := range [][]string{
		{"put", "ann", "theme", "dark", "--token", "secret"},
		{"put", "--token=secret", "ann", "theme", "dark"},
	} {
		a := &app{args: args, explicit: map[string]bool{}}
		line := a.again("--request-id", "r1")
		if strings.Contains(line, "secret") || !strings.Contains(line, "TOKEN") || !strings.HasSuffix(line, "--request-id r1") {
			t.Errorf("%q", line)
		}
	}
}
