package replica_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/dalvdb/dalvdb/sdk/replica/replicatest"
)

// exampleTB is what a test gives to a server, for examples, which have no test.
type exampleTB struct {
	testing.TB // nil: who asks for more than below panics
	cleanups   []func()
}

func (e *exampleTB) Helper()                  {}
func (e *exampleTB) Context() context.Context { return context.Background() }
func (e *exampleTB) Cleanup(f func())         { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }

// exampleServer returns a server, and what ends it and all that was opened on it.
func exampleServer() (s *replicatest.Server, end func()) {
	tb := new(exampleTB)
	return replicatest.NewServer(tb), func() {
		for i := len(tb.cleanups) - 1; i >= 0; i-- {
			tb.cleanups[i]()
		}
	}
}

// fine ends an example that meets an error.
func fine(errs ...error) {
	for _, err := range errs {
		if err != nil {
			panic(err)
		}
	}
}
