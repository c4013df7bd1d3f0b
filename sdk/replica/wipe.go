package replica

import "errors"

// ErrUnsent says that there are edits that the server has not decided, or that wait
// for the application.
var ErrUnsent = errors.New("there are edits that the server does not have")

// Wipe forgets everything, as at sign-out, and closes the replica. It refuses with
// ErrUnsent while there are edits that would be lost, unless drop says that they
// may be. The store is empty then, and takes another user; one of OpenStore has no
// file any more in which what it held could be read.
func (r *Replica) Wipe(drop bool) error {
	err := r.change(func(w *work) error {
		cs, err := r.Cases() // here, where nobody adds one
		if err != nil {
			return err
		}
		unsent := len(w.outbox) > 0
		for i := range cs {
			unsent = unsent || cs[i].waits()
		}
		if unsent && !drop {
			return ErrUnsent
		}
		w.writes = append(w.writes, Write{Key: []byte{0}, Upper: []byte{0xff}})
		w.wiped = true
		return nil
	})
	if err != nil {
		return err
	}
	return r.Close()
}

// An eraser is a Store that keeps rows in files for a while after they are deleted, and
// can take them out of those at once, when nothing else is under way.
type eraser interface{ erase() error }
