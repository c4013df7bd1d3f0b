package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

// TestDiskNearlyFull lets a disk of 900 MiB become nearly full under load, and
// then full to the last byte. Writes must be refused with the request to come
// back, reads must go on, the node must start on a disk that is nearly full, and
// go on when there is room again; nothing acknowledged may be lost by any of it.
func TestDiskNearlyFull(t *testing.T) {
	disk := mountTmpfs(t, 900<<20)
	n := nodeOn(t, filepath.Join(disk, "data"))
	n.start()
	l := newLoad(n, 16)
	l.run()
	l.awaitAnswers(300)

	leave(t, disk, events.DiskFreeMin-1<<20)
	refused(t, l)
	leave(t, disk, 0)
	refused(t, l)
	leave(t, disk, 100<<20) // some room, as a start needs it
	n.kill()
	n.start()
	refused(t, l)
	must(t, os.Remove(filepath.Join(disk, "filler")))
	l.awaitAnswers(300)
	l.stop()
	got := l.audit()
	l.counted(got)
	n.stop()
	verified(t, n.data)
	j := l.judge(n.data)
	j.audited(got)
}

// refused shows that writes are refused for now, and that reads are not.
func refused(t *testing.T, l *load) {
	t.Helper()
	u := l.users[0]
	s := newService(l, 1000+len(l.acknowledged()))
	ev := s.write(u)
	await(t, "the node finds the disk nearly full", func() bool {
		return strings.Contains(get(t, l.c.node.urls().Backends+"/metrics"), "\ndalvdb_log_disk_full 1\n")
	})
	_, err := s.rpc.Update(brief(t), connect.NewRequest(wire.EncodeUpdate(ev, false)))
	if code, info := codeOf[*errdetails.RetryInfo](err); code != connect.CodeResourceExhausted || info.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("a write meets %v", err)
	}
	d := newDevice(l, 1000+len(l.acknowledged()), u)
	_, err = d.rpc.Sync(brief(t), connect.NewRequest(&dalvdbv1.SyncRequest{
		UserId: string(u), DeviceId: d.id, Push: wire.EncodePush(&events.Event{Push: events.Push{Seq: 1, ID: newID[events.PushID](d.rng)}, Ops: traces(d.id, 0)}),
	}))
	if code, info := codeOf[*errdetails.RetryInfo](err); code != connect.CodeResourceExhausted || info == nil {
		t.Errorf("a push meets %v", err)
	}
	must(t, d.sync())
	if _, _, err := s.get(u, countAll, events.Read{Mode: events.ReadStrong}); err != nil {
		t.Error(err)
	}
}

// mountTmpfs mounts a disk in memory that ends with the test.
func mountTmpfs(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("this machine does not let us mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// leave makes a file so large that only so much is free on the disk.
func leave(t *testing.T, disk string, free int64) {
	t.Helper()
	var on unix.Statfs_t
	must(t, unix.Statfs(disk, &on))
	f, err := os.OpenFile(filepath.Join(disk, "filler"), os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	size := info.Size() + int64(on.Bavail)*on.Bsize - free
	must(t, f.Truncate(min(info.Size(), size)))
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, size))
}
