package connectapi_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
)

// reflection opens a stream of reflection and asks one question of it.
func (n *node) reflection(t *testing.T) (*grpcreflect.ClientStream, error) {
	t.Helper()
	s := grpcreflect.NewClient(n.network.client(true), deviceURL, connect.WithGRPC()).NewStream(t.Context())
	_, err := s.ListServices()
	return s, err
}

// Reflection needs no token, so that its streams are few and short, and hold up
// nothing.
func TestReflectionIsBounded(t *testing.T) {
	t.Run("drain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newBubble(t, &core{})
			_, err := n.reflection(t)
			must(t, err)
			begin := time.Now()
			n.api.Drain()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if err := n.servers[0].Shutdown(ctx); err != nil || time.Since(begin) > 5*time.Second {
				t.Errorf("the stop took %v: %v", time.Since(begin), err)
			}
		})
	})
	t.Run("time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newBubble(t, &core{})
			s, err := n.reflection(t)
			must(t, err)
			time.Sleep(29 * time.Second) //nolint:forbidigo // virtual time
			_, err = s.ListServices()
			must(t, err)
			time.Sleep(2 * time.Second) //nolint:forbidigo // virtual time
			if _, err = s.ListServices(); err == nil {
				t.Error("a stream without a token goes on")
			}
			_, _ = s.Close()
		})
	})
	t.Run("seats", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newBubble(t, &core{})
			for range 64 {
				_, err := n.reflection(t)
				must(t, err)
			}
			_, err := n.reflection(t)
			_ = wantCode(t, err, connect.CodeResourceExhausted)
			time.Sleep(31 * time.Second) //nolint:forbidigo // virtual time
			s, err := n.reflection(t)
			must(t, err)
			_, _ = s.Close()
		})
	})
}
