package connectapi_test

import (
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// retryAfter checks that an error says when to come back.
func retryAfter(t testing.TB, ce *connect.Error) {
	t.Helper()
	if d := detail[*errdetails.RetryInfo](t, ce).GetRetryDelay().AsDuration(); d <= 0 {
		t.Errorf("%v: come back after %v", ce, d)
	}
}
