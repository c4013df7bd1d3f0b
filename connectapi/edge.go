package connectapi

import (
	"context"
	"crypto/rand"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/events"
)

// edge is the interceptor between Connect and the services: it tells their
// errors as clients know them.
type edge struct{ api *API }

var _ connect.Interceptor = edge{}

// WrapUnary implements connect.Interceptor.
func (e edge) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		c := callOf(ctx)
		if err := decoded(req.Any()); err != nil {
			return nil, c.finish(err)
		}
		resp, err := next(ctx, req)
		if err != nil {
			return nil, c.finish(err)
		}
		return resp, c.finish(nil)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (e edge) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return callOf(ctx).finish(next(ctx, decodedConn{conn}))
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (e edge) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// Connect decodes a request before any code of ours that could answer it, and of
// an error of a codec it tells the text only. So that clients learn which field
// was wrong, a codec that knows decodes such a request into a message that says
// so, and nothing else: in a field that no schema has, under a secret of this
// process, so that no client can send one. The interceptors look for it.

const undecodedField protowire.Number = 1<<29 - 1 // the last there is

var undecodedSecret = rand.Text()

// undecoded makes a message say what was wrong with the bytes it was to hold.
func undecoded(m proto.Message, e *events.InvalidError) {
	said := protowire.AppendString(nil, undecodedSecret)
	said = protowire.AppendString(said, e.Field)
	said = protowire.AppendString(said, e.Detail)
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, undecodedField, protowire.BytesType), said))
}

// decoded returns what a message says was wrong, nil of any other message.
func decoded(message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return nil
	}
	unknown := m.ProtoReflect().GetUnknown()
	if len(unknown) == 0 {
		return nil
	}
	num, _, n := protowire.ConsumeTag(unknown)
	if num != undecodedField {
		return nil
	}
	said, _ := protowire.ConsumeBytes(unknown[n:])
	secret, n := protowire.ConsumeString(said)
	if n < 0 || secret != undecodedSecret {
		return nil
	}
	field, m1 := protowire.ConsumeString(said[n:])
	detail, _ := protowire.ConsumeString(said[n+m1:])
	return invalid(field, detail)
}

// decodedConn is a stream whose messages have been decoded.
type decodedConn struct{ connect.StreamingHandlerConn }

// Receive implements connect.StreamingHandlerConn.
func (c decodedConn) Receive(message any) error {
	if err := c.StreamingHandlerConn.Receive(message); err != nil {
		return err
	}
	return decoded(message)
}
