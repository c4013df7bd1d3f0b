package process_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// What is spoken to the node here is not made by our own clients.

// pushJSON is a push as somebody would type it.
const pushJSON = `{"userId": "ann", "deviceId": "phone", "push": {"seq": "1", "id": "AAECAwQFBgcICQoLDA0ODw==",
  "guards": [{"key": "theme", "version": "0"}], "ops": [{"key": "theme", "put": {"value": {"text": "dark"}}}]}}`

// synced is what of an answer is looked at.
type synced struct {
	Code    string
	Verdict struct {
		Outcome  string
		Position struct{ Offset string }
	}
	Changes []struct {
		Key      string
		Replaced struct{ Values []map[string]string }
	}
}

func (s *synced) check(t *testing.T, how string, raw []byte) {
	t.Helper()
	if err := json.Unmarshal(raw, s); err != nil {
		t.Fatalf("%s: %v: %s", how, err, raw)
	}
	if s.Verdict.Outcome != "OUTCOME_ACCEPTED" || len(s.Changes) != 1 || s.Changes[0].Replaced.Values[0]["text"] != "dark" {
		t.Errorf("%s: %s", how, raw)
	}
}

// TestCurl speaks to both ports with curl: the same push again and again, by
// every version of HTTP, gets one verdict.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	cert, key := certificate(t)
	n := newNode(t, "--tls-cert", cert, "--tls-key", key)
	n.start()
	token := strings.TrimSpace(dalvdb(t, "token", "ann", "--data", n.data))
	secure := []string{"--cacert", cert, "-H", "Content-Type: application/json", "-d", pushJSON, n.urls().Devices + "/dalvdb.v1.ReplicaService/Sync"}
	offset := ""
	for _, version := range []string{"--http1.1", "--http2"} {
		var got synced
		got.check(t, "curl "+version, curl(t, append([]string{version, "-H", "Authorization: Bearer " + token}, secure...)...))
		if offset == "" {
			offset = got.Verdict.Position.Offset
		}
		if got.Verdict.Position.Offset != offset {
			t.Errorf("curl %s: the retry stands at offset %s, the first at %s", version, got.Verdict.Position.Offset, offset)
		}
	}
	var refused synced
	if must(t, json.Unmarshal(curl(t, secure...), &refused)); refused.Code != "unauthenticated" {
		t.Errorf("without a token: %+v", refused)
	}

	service := "Authorization: Bearer " + strings.TrimSpace(dalvdb(t, "token", "--backend", "svc", "--data", n.data))
	for _, version := range []string{"--http1.1", "--http2-prior-knowledge"} {
		got := curl(t, version, "-H", service, "-H", "Content-Type: application/json", "-d", `{"userId": "ann", "key": "theme"}`,
			n.urls().Backends+"/dalvdb.v1.BackendService/Get")
		if !bytes.Contains(got, []byte(`"text":"dark"`)) {
			t.Errorf("curl %s: %s", version, got)
		}
	}
	if got := curl(t, n.urls().Backends+"/livez"); string(got) != "ok\n" {
		t.Errorf("livez: %q", got)
	}
	if got := curl(t, n.urls().Backends+"/metrics"); !bytes.Contains(got, []byte("dalvdb_build_info{")) {
		t.Errorf("metrics: %.300s", got)
	}
	n.stop()
}

func curl(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "curl", append([]string{"--silent", "--show-error", "--max-time", "30"}, args...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl %s: %v: %s", strings.Join(args, " "), err, &complaints)
	}
	return out
}

// certificate makes a certificate for this machine and returns its files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dalvdb test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

// TestGrpcurl explores both ports with grpcurl, which knows nothing of our
// schema but what reflection tells it.
func TestGrpcurl(t *testing.T) {
	grpcurl := tool(t, "grpcurl")
	n := newNode(t)
	n.start()
	token := "authorization: Bearer " + strings.TrimSpace(dalvdb(t, "token", "ann", "--data", n.data))
	service := "authorization: Bearer " + strings.TrimSpace(dalvdb(t, "token", "--backend", "svc", "--data", n.data))
	devices, backends := strings.TrimPrefix(n.urls().Devices, "http://"), strings.TrimPrefix(n.urls().Backends, "http://")
	for _, c := range []struct {
		what string
		args []string
		says []string
	}{
		{"list of devices' port", []string{devices, "list"}, []string{"dalvdb.v1.ReplicaService", "grpc.health.v1.Health"}},
		{"list of backends' port", []string{backends, "list"}, []string{"dalvdb.v1.BackendService", "grpc.health.v1.Health"}},
		{"describe a service", []string{devices, "describe", "dalvdb.v1.ReplicaService"}, []string{"rpc Sync", "rpc Snapshot", "rpc Watch", "returns ( stream"}},
		{"describe a message", []string{backends, "describe", "dalvdb.v1.UpdateRequest"}, []string{"string request_id = 2", "repeated .dalvdb.v1.Guard guards"}},
		{"health of the node", []string{devices, "grpc.health.v1.Health/Check"}, []string{`"SERVING"`}},
		{"health of a service", []string{"-d", `{"service": "dalvdb.v1.BackendService"}`, backends, "grpc.health.v1.Health/Check"}, []string{`"SERVING"`}},
		{"a push", []string{"-H", token, "-d", pushJSON, devices, "dalvdb.v1.ReplicaService/Sync"}, []string{"OUTCOME_ACCEPTED", `"dark"`}},
		{"the same push", []string{"-H", token, "-d", pushJSON, devices, "dalvdb.v1.ReplicaService/Sync"}, []string{"OUTCOME_ACCEPTED", `"dark"`}},
		{"a stream", []string{"-H", token, "-d", `{"userId": "ann"}`, devices, "dalvdb.v1.ReplicaService/Snapshot"}, []string{`"theme"`, "historyId"}},
		{"a history", []string{"-H", service, "-d", `{"userId": "ann"}`, backends, "dalvdb.v1.BackendService/History"}, []string{"OUTCOME_ACCEPTED", `"phone"`}},
		{"no token", []string{"-d", pushJSON, devices, "dalvdb.v1.ReplicaService/Sync"}, []string{"Code: Unauthenticated"}},
		{"another user", []string{"-H", token, "-d", `{"userId": "bob", "deviceId": "d"}`, devices, "dalvdb.v1.ReplicaService/Sync"}, []string{"Code: PermissionDenied", "WrongUser"}},
		{"a device's token on the other port", []string{"-H", token, "-d", `{}`, backends, "dalvdb.v1.BackendService/ListUsers"}, []string{"Code: Unauthenticated"}},
		{"an absent key", []string{"-H", service, "-d", `{"userId": "ann", "key": "none"}`, backends, "dalvdb.v1.BackendService/Get"}, []string{"Code: NotFound", "dalvdb.v1.NotFound"}},
	} {
		out, err := exec.CommandContext(t.Context(), grpcurl, append([]string{"-plaintext", "-max-time", "30"}, c.args...)...).CombinedOutput()
		if failed := strings.HasPrefix(c.says[0], "Code:"); failed != (err != nil) {
			t.Errorf("%s: %v\n%s", c.what, err, out)
		}
		for _, words := range c.says {
			if !strings.Contains(string(out), words) {
				t.Errorf("%s: no %q in\n%s", c.what, words, out)
			}
		}
	}
	// The push was sent twice, and stands once.
	if got := dalvdb(t, "history", "ann", "--url", n.urls().Backends, "--data", n.data, "-o", "json"); strings.Count(got, "\n") != 1 {
		t.Errorf("the history has not one event:\n%s", got)
	}
	n.stop()
}

// tool returns the path of a tool that is pinned beside the others.
func tool(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile="+filepath.Join("..", "tools", "go.mod"), "-n", name)
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	path, err := cmd.Output()
	if err != nil {
		t.Fatalf("go tool -n %s: %v\n%s", name, err, &complaints)
	}
	return strings.TrimSpace(string(path))
}

// TestGRPCWeb sends gRPC-Web byte by byte, as a browser does.
func TestGRPCWeb(t *testing.T) {
	const origin = "https://app.example"
	n := newNode(t, "--cors-origin", origin)
	n.start()
	token := strings.TrimSpace(dalvdb(t, "token", "ann", "--data", n.data))
	address := n.urls().Devices + "/dalvdb.v1.ReplicaService/Sync"
	ev := &events.Event{Push: events.Push{Seq: 1, ID: events.PushID{1}}, Ops: []events.Op{events.Put("theme", events.Text("dark"))}}
	message, err := proto.Marshal(&dalvdbv1.SyncRequest{UserId: "ann", DeviceId: "phone", Push: wire.EncodePush(ev)})
	must(t, err)
	post := func(contentType, token string, body []byte) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, bytes.NewReader(body))
		must(t, err)
		for name, value := range map[string]string{
			"Content-Type": contentType, "X-Grpc-Web": "1", "Origin": origin, "Authorization": "Bearer " + token,
		} {
			req.Header.Set(name, value)
		}
		res, err := http.DefaultClient.Do(req)
		must(t, err)
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		must(t, err)
		return res, answer
	}

	for range 2 { // the retry too
		res, answer := post("application/grpc-web+proto", token, frame(0, message)) //nolint:bodyclose // post has read and closed it
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/grpc-web+proto" || res.Header.Get("Access-Control-Allow-Origin") != origin {
			t.Fatalf("status %s, header %v", res.Status, res.Header)
		}
		flag, first, rest := unframe(t, answer)
		var got dalvdbv1.SyncResponse
		if must(t, proto.Unmarshal(first, &got)); flag != 0 || got.GetVerdict().GetOutcome() != dalvdbv1.Outcome_OUTCOME_ACCEPTED || len(got.GetChanges()) != 1 {
			t.Errorf("frame %d: %v", flag, &got)
		}
		if flag, trailers, rest := unframe(t, rest); flag != 0x80 || !strings.Contains(string(trailers), "grpc-status: 0\r\n") || len(rest) > 0 {
			t.Errorf("last frame %d: %q, and %d more bytes", flag, trailers, len(rest))
		}
	}
	res, answer := post("application/grpc-web+proto", "forged", frame(0, message)) //nolint:bodyclose // post has read and closed it
	if res.Header.Get("Grpc-Status") != "16" || len(answer) > 0 {                  // an answer of trailers alone
		t.Errorf("a forged token: %v, %q", res.Header, answer)
	}
	// The form in base64 is for browsers of the past. It is refused as what it is.
	res, answer = post("application/grpc-web-text", token, []byte(base64.StdEncoding.EncodeToString(frame(0, message)))) //nolint:bodyclose // post has read and closed it
	if res.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(res.Header.Get("Accept-Post"), "application/grpc-web+proto") {
		t.Errorf("the text form: %s, accepts %q: %s", res.Status, res.Header.Get("Accept-Post"), answer)
	}
	n.stop()
}

// frame is a message as gRPC sends it, with a flag and its length.
func frame(flag byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...)
}

func unframe(t *testing.T, b []byte) (flag byte, message, rest []byte) {
	t.Helper()
	if len(b) < 5 || uint32(len(b)-5) < binary.BigEndian.Uint32(b[1:]) {
		t.Fatalf("not a frame: %q", b)
	}
	end := 5 + binary.BigEndian.Uint32(b[1:])
	return b[0], b[5:end], b[end:]
}
