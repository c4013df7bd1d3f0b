package backend_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// A peer that is not trusted, or does not speak TLS, has been sent nothing: a
// write to it has not taken effect, and is not tried again.
func TestWritesToAWrongPeer(t *testing.T) {
	secret := httptest.NewUnstartedServer(http.NotFoundHandler())
	secret.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secret.StartTLS()
	defer secret.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, url := range []string{secret.URL, "https" + strings.TrimPrefix(plain.URL, "http")} {
		tries := 0
		c, err := backend.New(backend.Options{URL: url, OnRetry: func(error, time.Duration) { tries++ }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Update(t.Context(), "ann", backend.Update{Ops: []events.Op{events.Delete("theme")}})
		if err == nil || errors.Is(err, events.ErrUnknownOutcome) || tries > 0 {
			t.Errorf("%s: %v after %d retries", url, err, tries)
		}
	}
}
