package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/sdk/backend"
)

// errNoAnswer is why a call is given up for which --timeout is over.
var errNoAnswer = errors.New("no answer in time")

// ask makes one call, with its retries, within --timeout.
func ask[T any](ctx context.Context, c *clientFlags, call func(context.Context) (T, error)) (T, error) {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, errNoAnswer)
		defer cancel()
	}
	v, err := call(ctx)
	return v, c.explain(ctx, err)
}

// each passes on what a stream or a listing brings, and gives up when what comes
// next, or with onlyFirst what comes first, takes longer than --timeout. The
// time that its reader takes does not count.
func each[T any](
	ctx context.Context, c *clientFlags, onlyFirst bool, open func(context.Context) iter.Seq2[T, error],
) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, p := c.waitLimit(ctx)
		defer p.end()
		for v, err := range open(ctx) {
			p.pause()
			if !yield(v, c.explain(ctx, err)) {
				return
			}
			if !onlyFirst {
				p.goOn()
			}
		}
	}
}

// waitLimit ends a context when what is waited for takes longer than --timeout.
type waitLimit struct {
	limit  time.Duration // 0: for ever
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (c *clientFlags) waitLimit(ctx context.Context) (context.Context, *waitLimit) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &waitLimit{limit: c.timeout, cancel: cancel}
	if p.limit > 0 {
		p.timer = time.AfterFunc(p.limit, func() { cancel(errNoAnswer) })
	}
	return ctx, p
}

// pause stops the time, and goOn begins it anew.
func (p *waitLimit) pause() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (p *waitLimit) goOn() {
	if p.timer != nil {
		p.timer.Reset(p.limit)
	}
}

func (p *waitLimit) end() {
	p.pause()
	p.cancel(nil)
}

// patientBody is the body of an answer, each piece of which is waited for.
type patientBody struct {
	io.ReadCloser
	wait    *waitLimit
	explain func(error) error
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.wait.goOn()
	n, err := b.ReadCloser.Read(p)
	b.wait.pause()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.explain(err)
	}
	return n, err
}

func (b *patientBody) Close() error {
	b.wait.end()
	return b.ReadCloser.Close()
}

// worded is an error in other words.
type worded struct {
	words string
	err   error
}

func (e *worded) Error() string { return e.words }
func (e *worded) Unwrap() error { return e.err }

// explain puts into words what a person can do something about, and gives it the
// exit code that fits. Other errors stay as they are.
func (c *clientFlags) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	words, code := c.reason(ctx, err)
	if words == "" {
		return err
	}
	var unknown *backend.UnknownOutcomeError
	if errors.As(err, &unknown) {
		code = exitUnavailable
		if unknown.Request != "" {
			words = fmt.Sprintf("outcome unknown (request id %s): %s", unknown.Request, words)
		}
	}
	return &exitError{code: code, err: &worded{words, err}}
}

func (c *clientFlags) reason(ctx context.Context, err error) (words string, code int) {
	var ce *connect.Error
	answered := errors.As(err, &ce)
	broken := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errNoAnswer) ||
		answered && (ce.Code() == connect.CodeCanceled || ce.Code() == connect.CodeDeadlineExceeded)
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(context.Cause(ctx), errNoAnswer) && broken && !connect.IsWireError(err):
		return fmt.Sprintf("unavailable: no answer from %s within %v", c.url, c.timeout), exitUnavailable
	case ctx.Err() != nil && broken && !connect.IsWireError(err):
		return "interrupted", exitFailed
	case errors.As(err, &untrusted):
		return fmt.Sprintf("the certificate of %s is not trusted: %v\n"+
			"SSL_CERT_FILE may name a PEM file with the authorities to trust", c.url, untrusted.Err), exitFailed
	case plainPort(err):
		return fmt.Sprintf("%s does not speak TLS: does --url want http://?", c.url), exitUsage
	case answered && ce.Code() == connect.CodeUnauthenticated:
		return fmt.Sprintf("%v\nthe token is %s", ce, c.tokenOrigin()), exitDenied
	case !answered || connect.IsWireError(err):
		return "", 0
	}
	switch status := strings.TrimPrefix(ce.Message(), "HTTP status "); {
	case strings.HasPrefix(status, "404 "):
		return fmt.Sprintf("no backend service at %s (404): is --url a backend port of a node? Usual is 7470", c.url), exitUsage
	case strings.HasPrefix(status, "400 ") && strings.HasPrefix(c.url, "http://"):
		return fmt.Sprintf("no backend service at %s (400): does --url want https://?", c.url), exitUsage
	case ce.Code() == connect.CodeCanceled && ctx.Err() == nil:
		return "unavailable: " + status, exitUnavailable // a connection that was reset
	}
	return "", 0
}

// plainPort reports whether TLS was spoken to a port that does not.
func plainPort(err error) bool {
	var garbled tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &garbled)
}
