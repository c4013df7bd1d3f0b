package connectapi

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/dalvdb/dalvdb/connectapi/auth"
	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/events"
)

// told says what a client must be told of an error: the code, and the types of
// the details.
var told = []struct {
	name    string // in package events, "" if it is not from there
	err     error
	code    connect.Code
	details []proto.Message
}{
	{"InvalidError", &events.InvalidError{Field: "user_id", Detail: "required"}, connect.CodeInvalidArgument, []proto.Message{&errdetails.BadRequest{}}},
	{"OverloadedError", &events.OverloadedError{What: "x", RetryAfter: time.Second}, connect.CodeResourceExhausted, []proto.Message{&errdetails.RetryInfo{}}},
	{"ErrUnavailable", events.ErrUnavailable, connect.CodeUnavailable, nil},
	{"ErrUnknownOutcome", events.ErrUnknownOutcome, connect.CodeUnavailable, nil},
	{"ErrOtherHistory", events.ErrOtherHistory, connect.CodeFailedPrecondition, []proto.Message{&dalvdbv1.OtherHistory{}}},
	{"ErrHalted", events.ErrHalted, connect.CodeUnavailable, nil},
	{"ErrDomainsDiffer", events.ErrDomainsDiffer, connect.CodeUnavailable, nil},
	{"ErrClosed", events.ErrClosed, connect.CodeUnavailable, nil},
	{"ErrNotStarted", events.ErrNotStarted, connect.CodeUnavailable, nil},
	{"ErrDiskFull", events.ErrDiskFull, connect.CodeResourceExhausted, []proto.Message{&errdetails.RetryInfo{}}},
	{"ErrTooLarge", events.ErrTooLarge, connect.CodeResourceExhausted, nil},
	{"ErrNoPartition", events.ErrNoPartition, connect.CodeInternal, nil},
	{"ErrCorrupt", events.ErrCorrupt, connect.CodeInternal, nil},

	{"", errWrongUser, connect.CodePermissionDenied, []proto.Message{&dalvdbv1.WrongUser{}}},
	{"", errReadOnly, connect.CodePermissionDenied, nil},
	{"", errReused, connect.CodeFailedPrecondition, []proto.Message{&dalvdbv1.Reused{}}},
	{"", errSlowReader, connect.CodeResourceExhausted, []proto.Message{&dalvdbv1.SlowReader{}, &errdetails.RetryInfo{}}},
	{"", errTokenExpired, connect.CodeUnauthenticated, nil},
	{"", errDraining, connect.CodeUnavailable, nil},
	{"", errNoContact, connect.CodeUnavailable, []proto.Message{&errdetails.RetryInfo{}}},
	{"", errFirstLate, connect.CodeUnavailable, nil},
	{"", errNotTried, connect.CodeUnavailable, nil},
	{"", errNoBackup, connect.CodeUnimplemented, nil},
	{"", &forkedError{}, connect.CodeFailedPrecondition, []proto.Message{&dalvdbv1.Forked{}}},
	{"", &absentError{}, connect.CodeNotFound, []proto.Message{&dalvdbv1.NotFound{}}},
	{"", &auth.Error{Reason: auth.Expired}, connect.CodeUnauthenticated, nil},
	{"", &auth.Error{Reason: auth.NoKeys}, connect.CodeUnavailable, nil},
	{"", context.Canceled, connect.CodeCanceled, nil},
	{"", context.DeadlineExceeded, connect.CodeDeadlineExceeded, nil},
	{"", errors.New("anything else"), connect.CodeInternal, nil},
	// Joined, what is not known weighs most; an unknown cause of unavailability
	// does not make it internal.
	{"", errors.Join(&events.OverloadedError{What: "x"}, events.ErrUnknownOutcome), connect.CodeUnavailable, nil},
	{"", fmt.Errorf("%w: %w", events.ErrUnavailable, events.ErrCorrupt), connect.CodeUnavailable, nil},
	{"", fmt.Errorf("%w: %w", events.ErrUnavailable, context.DeadlineExceeded), connect.CodeUnavailable, nil},
}

func TestErrorsAreTold(t *testing.T) {
	for _, tt := range told {
		// As they come: wrapped, with things in the text that clients must not see.
		got := toConnect(fmt.Errorf("read /secret/path: %w", tt.err))
		if got.Code() != tt.code || got.Message() == "" || strings.Contains(got.Message(), "secret") {
			t.Errorf("%v: got %v, want %v", tt.err, got, tt.code)
		}
		var have []string
		for _, d := range got.Details() {
			have = append(have, d.Type())
		}
		var want []string
		for _, m := range tt.details {
			want = append(want, string(m.ProtoReflect().Descriptor().FullName()))
		}
		if !slices.Equal(have, want) {
			t.Errorf("%v: details %v, want %v", tt.err, have, want)
		}
	}
	if got := toConnect(errors.New("anything else")); got.Message() != internalMessage {
		t.Errorf("got %q", got.Message())
	}
}

// Every error that package events can return has a line above, so that a new
// one cannot become internal by being forgotten.
func TestEveryErrorOfEventsIsTold(t *testing.T) {
	files, err := filepath.Glob("../events/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	have := map[string]bool{}
	for _, tt := range told {
		have[tt.name] = true
	}
	found := 0
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, name := range errorsOf(f) {
			found++
			if !have[name] {
				t.Errorf("events.%s has no line", name)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d errors were found", found)
	}
}

// errorsOf lists the exported error variables and types of a file.
func errorsOf(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range g.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				for _, id := range s.Names {
					if g.Tok == token.VAR && strings.HasPrefix(id.Name, "Err") {
						names = append(names, id.Name)
					}
				}
			case *ast.TypeSpec:
				if s.Name.IsExported() && strings.HasSuffix(s.Name.Name, "Error") {
					names = append(names, s.Name.Name)
				}
			}
		}
	}
	return names
}

// A position that is not of this history is told, and no more of the error.
func TestDetailsSayWhatIsKnown(t *testing.T) {
	e := toConnect(&forkedError{id: events.PushID{1}, offset: 7})
	v, err := e.Details()[0].Value()
	if f, ok := v.(*dalvdbv1.Forked); err != nil || !ok || f.GetOffset() != 7 || len(f.GetId()) != 16 {
		t.Errorf("got %v, %v", v, err)
	}
	v, err = toConnect(&events.OverloadedError{What: "x", RetryAfter: 3 * time.Second}).Details()[0].Value()
	if r, ok := v.(*errdetails.RetryInfo); err != nil || !ok || r.GetRetryDelay().AsDuration() != 3*time.Second {
		t.Errorf("got %v, %v", v, err)
	}
}
