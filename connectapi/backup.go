package connectapi

import (
	"errors"
	"io"
	"net/http"

	"connectrpc.com/connect"

	"github.com/dalvdb/dalvdb/events"
)

const backupPath = "/backup"

// serveBackup streams a backup as a tar file to a backend whose token may write:
// a backup holds what every user has.
//
// A backup that fails on the way must not look like one that has ended. The
// connection is broken off, which HTTP clients report as an error.
func (a *API) serveBackup(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	started, err := a.backup(w, r)
	err = c.finish(err)
	switch {
	case err != nil && started:
		panic(http.ErrAbortHandler) // net/http's way to break off
	case err != nil:
		_ = connect.NewErrorWriter().Write(w, r, err) // the client has gone
	}
}

// backup reports whether anything was sent.
func (a *API) backup(w http.ResponseWriter, r *http.Request) (started bool, err error) {
	c := callOf(r.Context())
	if c.who.ReadOnly {
		return false, errReadOnly
	}
	if a.cfg.Backup == nil {
		return false, errNoBackup
	}
	select {
	case a.backups <- struct{}{}:
		defer func() { <-a.backups }()
	default:
		return false, &events.OverloadedError{What: "backups under way", RetryAfter: streamsRetryAfter}
	}
	f, err := a.openWhole(r.Context())
	if err != nil {
		return false, err
	}
	defer f.close()
	f.untimed()
	out := &backupWriter{w: w, flow: f}
	err = a.cfg.Backup.Backup(f, out)
	if err == nil && !out.started {
		err = errors.New("backup is empty")
	}
	return out.started, f.told(err)
}

// backupWriter sends the header with the first byte, so that what fails before
// it can still be told.
type backupWriter struct {
	w       http.ResponseWriter
	flow    *flow
	started bool
}

var _ io.Writer = (*backupWriter)(nil)

func (b *backupWriter) Write(p []byte) (n int, err error) {
	if err := b.flow.Err(); err != nil {
		return 0, err
	}
	if !b.started {
		b.started = true
		b.w.Header().Set("Content-Type", "application/x-tar")
		b.w.Header().Set("Content-Disposition", `attachment; filename="dalvdb.tar"`)
		b.w.Header().Set("Cache-Control", "no-store")
	}
	err = b.flow.guard(func() error {
		n, err = b.w.Write(p)
		return err
	})
	return n, err
}
