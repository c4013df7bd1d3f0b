package process_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dalvdb/dalvdb/internal/kafka"
	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
)

// TestKafkaDiskFull lets the disk of the only broker become full to the last byte
// under load, which ends that broker. Nobody may be told that a write is accepted
// which the broker could not keep; when there is room and the broker was started
// again, everything goes on, and nothing acknowledged is missing.
func TestKafkaDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("a dead broker is missed after ten seconds")
	}
	disk := mountTmpfs(t, 256<<20)
	b := onBrokers(t, kafkatest.StartIn(t, kafka.Options{Brokers: 1, Dir: disk, ShortLived: true}))
	b.makeTopics(2)
	n := b.node("--write-timeout", "1s")
	n.start()
	l := newLoad(n, outageCallers)
	l.hasty = 0
	l.run()
	l.awaitAnswers(500)
	fillDisk(t, disk)
	await(t, "the broker ends", func() bool {
		pid, err := b.PID(1)
		must(t, err)
		return pid == 0
	})
	isAway(t, l)
	leave(t, disk, 64<<20)
	b.start(1)
	n.awaitReady()
	settled(t, b, l)
}

// fillDisk makes the file of leave larger until nothing is free, on a disk that others
// write to meanwhile.
func fillDisk(t *testing.T, disk string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(disk, "filler"), os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer f.Close()
	size := int64(0)
	for _, step := range []int64{1 << 20, 4 << 10} {
		for {
			err := unix.Fallocate(int(f.Fd()), 0, size, step)
			if errors.Is(err, unix.ENOSPC) {
				break
			}
			must(t, err)
			size += step
		}
	}
}
