package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
	"github.com/dalvdb/dalvdb/sdk/backend"
)

// writeFlags say what a write relies on and what it is known by.
type writeFlags struct {
	*clientFlags
	expect     int64
	expectKeys []string
	logID      string
	requestID  string
	meta       []string
	dryRun     bool
}

func (a *app) writeFlags(cmd *cobra.Command) *writeFlags {
	w := &writeFlags{clientFlags: a.clientFlags(cmd)}
	f := cmd.Flags()
	f.Int64Var(&w.expect, "expect", 0, "write only if KEY is at `VERSION`; 0: if it is absent")
	f.StringArrayVar(&w.expectKeys, "expect-key", nil, "write only if another key is as said, `KEY=VERSION`; repeatable")
	f.StringVar(&w.logID, "log-id", "", "the log `ID` under which the versions were read (position.logId of get -o json)")
	f.StringVar(&w.requestID, "request-id", "", "`ID` under which a repetition is known; made when not given")
	f.StringArrayVar(&w.meta, "meta", nil, "`NAME=VALUE` to send along; repeatable")
	f.BoolVar(&w.dryRun, "dry-run", false, "only say what the verdict would be")
	return w
}

// update returns what the flags make of one op.
func (w *writeFlags) update(op events.Op) (backend.Update, error) {
	u := backend.Update{Request: w.requestID, Ops: []events.Op{op}, DryRun: w.dryRun}
	if u.Request == "" {
		u.Request = uuid.NewString()
	}
	var err error
	if u.Log, err = events.ParseLogID(w.logID); err != nil {
		return u, usageError("--log-id: %w", err)
	}
	u.AnyHistory = u.Log.IsZero() // who types a version means the server as it is
	if w.expect < 0 {
		return u, usageError("--expect %d: want a number from 0", w.expect)
	}
	if w.given("expect") {
		u.Guards = append(u.Guards, events.Guard{Key: op.Key, Version: events.Offset(w.expect)})
	}
	for _, s := range w.expectKeys {
		g, err := parseGuard(s)
		if err != nil {
			return u, err
		}
		u.Guards = append(u.Guards, g)
	}
	for _, s := range w.meta {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return u, usageError("--meta %q: want NAME=VALUE", s)
		}
		if slices.ContainsFunc(u.Meta, func(m events.Meta) bool { return m.Name == name }) {
			return u, usageError("--meta %s: given twice", name)
		}
		u.Meta = append(u.Meta, events.Meta{Name: name, Value: value})
	}
	return u, nil
}

// parseGuard reads KEY=VERSION; a key may contain "=".
func parseGuard(s string) (events.Guard, error) {
	at := strings.LastIndexByte(s, '=')
	if at < 1 {
		return events.Guard{}, usageError("--expect-key %q: want KEY=VERSION", s)
	}
	version, err := strconv.ParseInt(s[at+1:], 10, 64)
	if err != nil || version < 0 {
		return events.Guard{}, usageError("--expect-key %q: the version is not a number from 0", s)
	}
	return events.Guard{Key: events.Key(s[:at]), Version: events.Offset(version)}, nil
}

// run makes the write and prints its verdict.
func (w *writeFlags) run(ctx context.Context, user string, op events.Op) error {
	u, err := w.update(op)
	if err != nil {
		return err
	}
	client, err := w.open()
	if err != nil {
		return err
	}
	v, err := ask(ctx, w.clientFlags, func(ctx context.Context) (backend.Verdict, error) {
		return client.Update(ctx, events.UserID(user), u)
	})
	var unknown *backend.UnknownOutcomeError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w\nIt may have taken effect. To learn the verdict, repeat it under the same name%s:\n  %s",
			err, w.app.sameInput(), w.app.again("--request-id", unknown.Request))
	}
	if err != nil {
		return err
	}
	return w.app.printVerdict(v, u)
}

// again returns the command line of this process with a flag added, for a shell.
// It ends up in logs, so a token that stands in it is left to be filled in.
func (a *app) again(flag, value string) string {
	var words []string
	add := []string{flag, value}
	if a.explicit[strings.TrimPrefix(flag, "--")] {
		add = nil // it stands there already
	}
	secret := false
	for _, arg := range a.args {
		switch {
		case arg == "--": // there are no flags after it
			words, add = append(words, add...), nil
		case secret:
			arg = "TOKEN"
		case strings.HasPrefix(arg, "--token="):
			arg = "--token=TOKEN"
		}
		secret = arg == "--token"
		words = append(words, arg)
	}
	words = append(words, add...)
	for i, word := range words {
		words[i] = shellQuote(word)
	}
	return "dalvdb " + strings.Join(words, " ")
}

// sameInput reminds of standard input where the command took its value from it.
func (a *app) sameInput() string {
	if slices.Contains(a.args, "-") {
		return ", with the same standard input"
	}
	return ""
}

// shellQuote returns s as one word of a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// printVerdict prints a verdict; one that is not accepted is an error too.
func (a *app) printVerdict(v backend.Verdict, u backend.Update) error {
	if a.output == "json" {
		if err := a.printJSON(wire.EncodeVerdict(&v)); err != nil {
			return err
		}
	}
	if v.Outcome != events.Accepted && v.Outcome != events.Seen {
		return &exitError{code: exitRejected, err: errors.New(explain(v, u))}
	}
	if a.output == "json" {
		return nil
	}
	form := "%v %v\n"
	if u.DryRun {
		form = "would be %v, as of %v\n"
	}
	_, err := fmt.Fprintf(a.out, form, v.Outcome, v.Position)
	return err
}

// explain says in words why a write did not take effect.
func explain(v backend.Verdict, u backend.Update) string {
	var b strings.Builder
	if u.DryRun {
		b.WriteString("would be ")
	}
	fmt.Fprintf(&b, "%v", v.Outcome)
	for _, c := range v.Conflicts {
		fmt.Fprintf(&b, "\n  %s is %s", c.Key, atVersion(c.Version))
		if c.Guard < len(u.Guards) {
			fmt.Fprintf(&b, ", not %s", atVersion(u.Guards[c.Guard].Version))
		}
		if c.Writer.Kind != 0 {
			fmt.Fprintf(&b, "; last changed by %v", c.Writer)
		}
	}
	for _, violation := range v.Violations {
		fmt.Fprintf(&b, "\n  %s: %v", whereOf(violation, u), violation.Reason)
		if violation.Limit != 0 {
			fmt.Fprintf(&b, " (at most %s%s)", humanize.Comma(violation.Limit), unitOf(violation.Reason))
		}
	}
	return b.String()
}

// whereOf names the part of a write that a violation is in, with the key that it
// is about.
func whereOf(v events.Violation, u backend.Update) string {
	path := wire.ViolationPath(v)
	var key events.Key
	switch {
	case path == "":
		return "the write as a whole"
	case v.Part == events.PartOp && v.Index >= 0 && v.Index < len(u.Ops):
		key = u.Ops[v.Index].Key
	case v.Part == events.PartGuard && v.Index >= 0 && v.Index < len(u.Guards):
		key = u.Guards[v.Index].Key
	}
	if key == "" || len(key) > events.KeyBytesMax {
		return path
	}
	return path + " (" + cellKey(key) + ")"
}

// unitOf says what the limit of a reason counts.
func unitOf(r events.Reason) string {
	return map[events.Reason]string{
		events.ReasonTooLong: " bytes", events.ReasonKeyTooBig: " bytes", events.ReasonEffectTooBig: " bytes",
		events.ReasonListFull: " values", events.ReasonTooManyDevices: " devices",
	}[r]
}

func atVersion(v events.Offset) string {
	if v == 0 {
		return "absent"
	}
	return fmt.Sprintf("at version %d", v)
}
