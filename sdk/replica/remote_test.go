package replica_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/sdk/replica"
)

// silent is a server that asks for a snapshot or a watch, and then says nothing more.
type silent struct{ answer *dalvdbv1.SyncResponse }

func (s silent) Do(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
	}
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/proto"}}, Request: req}
	if strings.HasSuffix(req.URL.Path, "/Sync") {
		raw, err := proto.Marshal(s.answer)
		res.Body = io.NopCloser(bytes.NewReader(raw))
		return res, err
	}
	res.Header.Set("Content-Type", "application/connect+proto")
	res.Body = dead{req.Context()}
	return res, nil
}

// dead is a connection on which nothing comes.
type dead struct{ ctx context.Context }

func (d dead) Read([]byte) (int, error) {
	<-d.ctx.Done()
	return 0, d.ctx.Err()
}

func (dead) Close() error { return nil }

// A stream on a connection that is dead ends, as a round does, so that the replica can
// try again and can be closed.
func TestSilentStreamEnds(t *testing.T) {
	for _, answer := range []*dalvdbv1.SyncResponse{{SnapshotRequired: true}, {More: true}} {
		synctest.Test(t, func(t *testing.T) {
			answer.HistoryId = strings.Repeat("0a", 16)
			r, err := replica.Open(replica.Config{Store: replica.NewMemoryStore(), User: "ann", URL: "http://server", HTTPClient: silent{answer}})
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began := time.Now()
			err = r.Sync(ctx)
			if err == nil || ctx.Err() != nil || time.Since(began) > time.Minute {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
			if s := r.Status(); s.Phase != replica.PhaseOffline || s.Reason == nil {
				t.Errorf("status %+v", s)
			}
			must(t, r.Close())
		})
	}
}
