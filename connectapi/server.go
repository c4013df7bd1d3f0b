package connectapi

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// NewServer returns a server for one port, bounded as limits.go says. It speaks
// HTTP/1.1 and HTTP/2; without tlsConfig HTTP/2 by prior knowledge (h2c). The
// caller serves it (ServeTLS with empty file names when there is a tlsConfig),
// and stops it: API.Drain, then Shutdown. logger gets, as warnings, what net/http
// has to say: handshakes that fail, and a panic outside of a procedure; nil
// discards it.
//
// A request has answerTimeout for itself and its answer, so that a client that
// does not read holds nothing for long. Streams have it taken away (flow.untimed):
// each message has a deadline of its own instead.
func NewServer(h http.Handler, tlsConfig *tls.Config, logger *slog.Logger) *http.Server {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(tlsConfig == nil)
	return &http.Server{
		Handler:           h,
		TLSConfig:         tlsConfig,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          RequestsPerConnectionMax,
			MaxReceiveBufferPerConnection: receiveBytesMax,
			MaxReceiveBufferPerStream:     receiveStreamBytesMax,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              2 * SlowReaderMax,
		},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, &connection{})
		},
	}
}

// ShutdownTimeout is how long a stopping server waits for requests under way
// after Drain: a write that waits for its verdict, and some more.
const ShutdownTimeout = 15 * time.Second
