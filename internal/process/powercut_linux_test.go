package process_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dalvdb/dalvdb/events"
)

// TestProcessPowerCut cuts the power under load, as far as software can: the data is on
// a file system of its own, in a file, and what counts after the cut is what that
// file holds. What the process had written and not yet synced is not in it.
//
// Each sync is held up for a tenth of a second before it begins, and the process
// killed by then, so that the cut always meets writes that are on their way.
func TestProcessPowerCut(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil || !canTrace(t, strace) {
		t.Skip("syncs are held up by strace, which is not to be had here")
	}
	disk := newCuttable(t)
	n := nodeOn(t, filepath.Join(disk.dir, "data"))
	n.start()
	l := newLoad(n, callersUsual)
	l.hasty = 0
	l.run()
	n.stop()
	rng := rand.New(rand.NewPCG(6, 6))
	n.wrap = []string{
		strace, "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
		"-e", "inject=fsync,fdatasync:delay_enter=100000",
	}
	taken := 0
	for range rounds(t, 2, 5) {
		n.start()
		l.awaitAnswers(200 + rng.IntN(300))
		await(t, "everybody waits for an answer", func() bool { return l.calling.Load() >= callersUsual })
		n.kill()
		image := disk.copyImage()
		before := readLog(t, n.data)
		disk.replace(image)
		taken += lostOf(t, before, readLog(t, n.data))
	}
	n.wrap = nil
	n.start()
	l.awaitAnswers(300)
	l.stop()
	l.resendAll()
	got := l.audit()
	l.counted(got)
	n.stop()
	verified(t, n.data)
	j := l.judge(n.data)
	j.audited(got)
	if taken == 0 {
		t.Error("no cut has taken anything: each met a node that had synced all it had written")
	}
	t.Logf("%d records were written and not synced when the power was cut; in the log: %v", taken, j.count())
}

// lostOf returns how many records at the end of a log are not in another, which
// must be a prefix in each partition.
func lostOf(t *testing.T, before, after map[events.Partition][][]byte) (n int) {
	t.Helper()
	for p, records := range after {
		if len(records) > len(before[p]) {
			t.Fatalf("partition %d has %d records after the cut, and had %d", p, len(records), len(before[p]))
		}
		for off := range records {
			if string(records[off]) != string(before[p][off]) {
				t.Fatalf("partition %d: another record stands at offset %d after the cut", p, off)
			}
		}
		n += len(before[p]) - len(records)
	}
	return n
}

// cuttable is a file system in a file, which can be replaced by what the file
// held at some moment.
type cuttable struct {
	t      *testing.T
	dir    string // where it is mounted
	images string // where the files are
	copies int
}

func newCuttable(t *testing.T) *cuttable {
	t.Helper()
	c := &cuttable{t: t, images: mountTmpfs(t, 4<<30), dir: filepath.Join(t.TempDir(), "disk")}
	must(t, os.Mkdir(c.dir, 0o700))
	image := filepath.Join(c.images, "0")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 1200<<20))
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	if err := c.mount(image); err != nil {
		t.Skipf("this machine does not let us mount: %v", err)
	}
	t.Cleanup(c.unmount)
	return c
}

// mount mounts an image. The file system writes nothing of its own accord for
// ten minutes.
func (c *cuttable) mount(image string) error {
	out, err := exec.Command("mount", "-o", "loop,noatime,commit=600", image, c.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (c *cuttable) unmount() {
	if err := unix.Unmount(c.dir, 0); err != nil {
		c.t.Errorf("unmount: %v", err)
	}
}

// copyImage returns a copy of what the disk holds now, without what the file
// system has not yet written to it.
func (c *cuttable) copyImage() string {
	c.t.Helper()
	c.copies++
	image := filepath.Join(c.images, fmt.Sprint(c.copies))
	out, err := exec.CommandContext(c.t.Context(), "cp", "--sparse=always", filepath.Join(c.images, fmt.Sprint(c.copies-1)), image).CombinedOutput()
	if err != nil {
		c.t.Fatalf("cp: %v: %s", err, out)
	}
	return image
}

// replace throws the disk away and mounts an image in its place.
func (c *cuttable) replace(image string) {
	c.t.Helper()
	c.unmount()
	must(c.t, os.Remove(filepath.Join(c.images, fmt.Sprint(c.copies-1))))
	must(c.t, c.mount(image))
}
