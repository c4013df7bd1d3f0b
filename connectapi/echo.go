package connectapi

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1/dalvdbv1connect"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// NewEcho returns what Sync is measured against: a handler for ReplicaService
// whose Sync looks at the token and answers every push as accepted, without
// reading what it says. The messages are the same, and so are their bytes on the
// wire, where small ones are not compressed; around it is Connect as it comes,
// and nothing of ours but the token check.
//
// It is for benchmarks, and is mounted nowhere.
func NewEcho(v *auth.Verifier) http.Handler {
	_, service := dalvdbv1connect.NewReplicaServiceHandler(echo{}, connect.WithCompressMinBytes(compressMin))
	errs := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := v.Verify(r.Context(), auth.Bearer(r.Header), auth.Device); err != nil {
			_ = errs.Write(w, r, connect.NewError(connect.CodeUnauthenticated, err)) // the client has gone
			return
		}
		service.ServeHTTP(w, r)
	})
}

// echo implements Sync alone.
type echo struct {
	dalvdbv1connect.UnimplementedReplicaServiceHandler
}

// Sync answers as a node does a push that is accepted from a device that has
// everything: the device is told of its own changes.
func (echo) Sync(_ context.Context, req *connect.Request[dalvdbv1.SyncRequest]) (*connect.Response[dalvdbv1.SyncResponse], error) {
	pos := &dalvdbv1.Position{LogId: echoLogID, Partition: 1, Offset: 1 << 20}
	writer := &dalvdbv1.Writer{Kind: dalvdbv1.WriterKind_WRITER_KIND_DEVICE, Id: req.Msg.GetDeviceId()}
	out := &dalvdbv1.SyncResponse{
		Verdict:  &dalvdbv1.Verdict{Outcome: dalvdbv1.Outcome_OUTCOME_ACCEPTED, Position: pos},
		Position: pos, HistoryId: echoLogID,
	}
	for _, op := range req.Msg.GetPush().GetOps() {
		out.Changes = append(out.Changes, &dalvdbv1.Change{
			Key: op.GetKey(), Version: pos.GetOffset(), Writer: writer, Time: wire.EncodeTime(echoTime),
			Kind: &dalvdbv1.Change_Replaced{Replaced: &dalvdbv1.Replaced{Values: []*dalvdbv1.Value{op.GetPut().GetValue()}}},
		})
	}
	return connect.NewResponse(out), nil
}

const (
	echoLogID             = "00112233445566778899aabbccddeeff"
	echoTime  events.Time = 1_780_000_000_000
)
