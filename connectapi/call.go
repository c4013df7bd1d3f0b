package connectapi

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/connectapi/auth"
)

// port is one of the two faces of a node, as metrics name it.
type port string

const (
	devicePort  port = "device"
	backendPort port = "backend"
)

func (p port) role() auth.Role {
	if p == devicePort {
		return auth.Device
	}
	return auth.Backend
}

// A call is one request on its way through the edge. It belongs to the
// goroutine that serves the request.
type call struct {
	id        string // the request id
	procedure string // as metrics name it
	stream    bool   // answered by more than one message
	who       auth.Identity
	http      *http.ResponseController
	conn      *connection  // nil behind a server that is not ours
	entries   atomic.Int64 // the bytes of what explains conflicts in the answer

	answered bool           // a handler has decided on an answer
	err      error          // which was this error, as the handler met it,
	told     *connect.Error // told like that
}

type callKey struct{}

// callOf returns the call of a request's context. Only handlers behind
// API.observe have one.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// fits takes room for what explains a conflict, and reports whether there was
// any. The updates of one request share the room.
func (c *call) fits(bytes int64) bool {
	if c.entries.Add(bytes) <= conflictBytesMax {
		return true
	}
	c.entries.Add(-bytes)
	return false
}

// observe makes a call of each request, names it, and counts and logs what
// became of it.
func (a *API) observe(procedures map[string]procedure, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		p, ok := procedures[r.URL.Path]
		if !ok {
			p.name = "other"
		}
		c := &call{
			id: requestID(r.Header.Get(requestIDHeader)), procedure: p.name, stream: p.stream,
			http: http.NewResponseController(w), conn: connectionOf(r.Context()),
		}
		w.Header().Set(requestIDHeader, c.id)
		defer func() { // also when the handler breaks the connection off
			took := time.Since(begin)
			a.metrics.observe(c.procedure, c.code(), took, c.stream)
			a.log(r.Context(), c, took)
		}()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
	})
}

// A procedure is what a path stands for.
type procedure struct {
	name   string // as metrics name it
	stream bool
}

// code names what a call was answered with, for metrics.
func (c *call) code() string {
	switch {
	case !c.answered:
		return "not_decoded"
	case c.told == nil:
		return "ok"
	}
	return c.told.Code().String()
}

// finish notes what a call is answered with, and returns the error as the
// client is told it.
func (c *call) finish(err error) error {
	c.answered = true
	if err == nil {
		return nil
	}
	c.err, c.told = err, toConnect(err)
	return c.told
}

// log writes a line for each call: loud for what is ours to repair.
func (a *API) log(ctx context.Context, c *call, took time.Duration) {
	level := slog.LevelDebug
	if c.told != nil {
		switch c.told.Code() {
		case connect.CodeInternal, connect.CodeUnknown:
			level = slog.LevelError
		case connect.CodeUnavailable:
			level = slog.LevelWarn
		}
		if errors.Is(c.err, errDraining) {
			level = slog.LevelDebug // each stream of a node that was told to stop
		}
	}
	if !a.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.id), slog.String("procedure", c.procedure),
		slog.String("code", c.code()), slog.Duration("took", took),
	}
	if c.who.Role == auth.Backend {
		attrs = append(attrs, slog.String("service", c.who.Service))
	}
	if c.err != nil {
		attrs = append(attrs, slog.Any("err", c.err))
	}
	a.cfg.Logger.LogAttrs(ctx, level, "request", attrs...)
}

const requestIDHeader = "X-Request-Id"

// requestID returns the id a client gave to its request, where it is of a form
// that can stand in logs, and else a new one.
func requestID(given string) string {
	const lengthMax = 64
	if given == "" || len(given) > lengthMax || strings.Trim(given, idCharacters) != "" {
		return rand.Text()
	}
	return given
}

const idCharacters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:"

// A connection is what calls on one connection share: how many streams it has.
type connection struct{ streams atomic.Int32 }

type connectionKey struct{}

func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}
