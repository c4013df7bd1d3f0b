package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// lockEvery is how often is looked whether a lock has become free: the system
// could say so only to a goroutine that nothing else ends.
const lockEvery = 50 * time.Millisecond

// lockFile waits for the lock of a file, which it makes if there is none.
func lockFile(ctx context.Context, name string) (io.Closer, error) {
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		lock, err := tryLock(name)
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock %s: %w", name, context.Cause(ctx))
		}
	}
}

// errLocked says that somebody has the lock, in this process or another.
var errLocked = errors.New("it is in use")

// tryLock locks a file, which it makes if there is none. The lock goes when it is
// closed, and with the process, however that ends.
func tryLock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}
