package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

const (
	defaultURL  = "http://127.0.0.1:7470"
	defaultData = "data"

	// defaultTimeout is longer than a node waits for a verdict, so that who writes
	// hears from the node what is known.
	defaultTimeout = defaultWriteTimeout + 5*time.Second

	// serviceOfCLI is the service that a credential made from the data directory
	// speaks for; writes show up as backend/cli.
	serviceOfCLI = "cli"
)

// clientFlags say which node a verb speaks to, and as whom.
type clientFlags struct {
	app     *app
	cmd     *cobra.Command
	url     string
	token   string
	data    string
	timeout time.Duration
}

func (a *app) clientFlags(cmd *cobra.Command) *clientFlags {
	c := &clientFlags{app: a, cmd: cmd}
	f := cmd.Flags()
	f.StringVar(&c.url, "url", defaultURL, "`URL` of the node's backend port")
	f.StringVar(&c.token, "token", "", "`TOKEN` of a backend; without it one is signed with the key in --data")
	f.StringVar(&c.data, "data", defaultData, "data `DIR` of the node, for its signing key")
	f.DurationVar(&c.timeout, "timeout", defaultTimeout, "how long to wait for an answer, with all tries; 0: try once, and wait")
	return c
}

// given reports whether a flag has a value from anywhere but its default.
func (c *clientFlags) given(flag string) bool { return c.cmd.Flags().Changed(flag) }

// open returns a client for the node.
func (c *clientFlags) open() (*backend.Client, error) {
	if c.timeout < 0 {
		return nil, usageError("--timeout %v: want 0 or more", c.timeout)
	}
	token, err := c.credential()
	if err != nil {
		return nil, err
	}
	o := backend.Options{URL: c.url, Token: token, RetryFor: c.timeout, OnRetry: c.notice}
	if o.RetryFor == 0 {
		o.RetryFor = -1
	}
	client, err := backend.New(o)
	if err != nil {
		return nil, usageError("--url: %w", err)
	}
	return client, nil
}

// sendsToken reports whether the token is --token, and not one that is signed
// here. A data directory named on the command line itself beats a token that
// merely stands in the environment.
func (c *clientFlags) sendsToken() bool {
	return c.token != "" && (c.app.explicit["token"] || !c.app.explicit["data"])
}

// tokenOrigin says what the token is, for a complaint about it. One in the
// environment is easily forgotten.
func (c *clientFlags) tokenOrigin() string {
	switch {
	case !c.sendsToken():
		return "signed with the key in " + c.data
	case c.app.explicit["token"]:
		return "that of --token"
	default:
		return "from " + sourceOf("token", c.app.config)
	}
}

// credential returns where tokens come from.
func (c *clientFlags) credential() (func(context.Context) (string, error), error) {
	if c.sendsToken() {
		if strings.ContainsFunc(c.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, usageError("--token: no token has spaces, line breaks or other such characters in it")
		}
		return backend.StaticToken(c.token), nil
	}
	s, err := newSelfSigned(c.data)
	if err != nil {
		return nil, &exitError{code: exitDenied, err: fmt.Errorf("no credential: give --token, or --data: %w", err)}
	}
	return s.token, nil
}

// notice tells people that something is being tried again.
func (c *clientFlags) notice(err error, wait time.Duration) {
	if c.app.interactive {
		fmt.Fprintf(c.app.err, "dalvdb: %s; again in %v\n", describe(err), wait.Round(time.Millisecond))
	}
}

// clientExitCode returns what the process ends with after an error of a call.
func clientExitCode(err error) int {
	switch {
	case errors.Is(err, backend.ErrNotFound):
		return exitNotFound
	case errors.Is(err, events.ErrUnknownOutcome):
		return exitUnavailable
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return exitFailed
	}
	switch ce.Code() {
	case connect.CodeInvalidArgument:
		return exitUsage
	case connect.CodeNotFound:
		return exitNotFound
	case connect.CodeFailedPrecondition, connect.CodeAborted:
		return exitRejected
	case connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return exitDenied
	case connect.CodeResourceExhausted:
		if !retryLater(ce) {
			return exitUsage // the request is too large, and will be
		}
		return exitUnavailable
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded:
		return exitUnavailable
	}
	return exitFailed
}

// retryLater reports whether the server says when to try again.
func retryLater(ce *connect.Error) bool {
	for _, d := range ce.Details() {
		if m, err := d.Value(); err == nil {
			if _, ok := m.(*errdetails.RetryInfo); ok {
				return true
			}
		}
	}
	return false
}

// describe returns an error in words for people: the server's message and the
// fields that it complains of.
func describe(err error) string {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return err.Error()
	}
	words := err.Error()
	for _, d := range ce.Details() {
		m, bad := d.Value()
		if bad != nil {
			continue
		}
		bad400, ok := m.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		for _, v := range bad400.GetFieldViolations() {
			if line := v.GetField() + ": " + v.GetDescription(); !strings.Contains(words, line) {
				words += "\n  " + line
			}
		}
	}
	return words
}
