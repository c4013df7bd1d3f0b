package connectapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
)

// A client that sends its body drop by drop is not waited for: for 30 s where
// the body is asked for, for 5 s where it is not, whoever the client is and
// whatever it asks.
func TestSlowBody(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		token      bool
		want       time.Duration
	}{
		{"with a token", dalvdbv1connect.ReplicaServiceSyncProcedure, true, 30 * time.Second},
		{"without a token", dalvdbv1connect.ReplicaServiceSyncProcedure, false, 5 * time.Second},
		{"health", "/grpc.health.v1.Health/Check", false, 30 * time.Second},
		{"nothing", "/nothing", false, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newBubble(t, &core{})
				token := ""
				if tt.token {
					token = n.userToken(t, "ann")
				}
				conn, err := n.network.dial(t.Context(), "device")
				must(t, err)
				giveUp := time.AfterFunc(time.Hour, func() { _ = conn.Close() })
				defer giveUp.Stop()
				begin := time.Now()
				_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: device\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n{",
					tt.path, token)
				must(t, err)
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if took := time.Since(begin); took != tt.want {
					t.Errorf("was waited for for %v, want %v", took, tt.want)
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					must(t, res.Body.Close())
					if res.StatusCode == http.StatusOK {
						t.Errorf("status %d", res.StatusCode)
					}
				}
				must(t, conn.Close())
			})
		})
	}
}

// The same on HTTP/2, where only a handler waits for a body.
func TestSlowBodyOfHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBubble(t, &core{})
		body, unsent := io.Pipe()
		begin := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, deviceURL+"/grpc.health.v1.Health/Check", body)
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		giveUp := time.AfterFunc(time.Hour, func() { _ = unsent.Close() })
		defer giveUp.Stop()
		if res, err := n.network.client(true).Do(req); err == nil {
			must(t, res.Body.Close())
		}
		if took := time.Since(begin); took != 30*time.Second {
			t.Errorf("was waited for for %v", took)
		}
	})
}
