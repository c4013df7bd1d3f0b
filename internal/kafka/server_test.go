package kafka

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A repository and a machine whose java and mvn are scripts.
type machine struct {
	root string
	bin  string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{root: t.TempDir(), bin: t.TempDir()}
	t.Setenv("JAVA_HOME", "")
	t.Setenv("PATH", m.bin)
	m.write(t, filepath.Join(m.root, project, "pom.xml"), "<project/>")
	t.Chdir(filepath.Join(m.root, project))
	return m
}

func (m *machine) write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), 0o755))
}

func (m *machine) java(t *testing.T, version string) {
	t.Helper()
	m.write(t, filepath.Join(m.bin, "java"), "#!/bin/sh\necho >> '"+m.root+"/javas'\necho 'openjdk version \""+version+"\" 2026' >&2\n")
}

// mvn makes a Maven that notes each call in calls and then does what it is told;
// $dir is the directory it is to copy to.
func (m *machine) mvn(t *testing.T, does string) {
	t.Helper()
	m.write(t, filepath.Join(m.bin, "mvn"), `#!/bin/sh
export PATH=/usr/bin:/bin
echo "$@" >> '`+m.root+`/calls'
for last; do dir=${last#-DoutputDirectory=}; done
`+does+"\n")
}

// calls is how often Maven was called; none is no error.
func (m *machine) calls() int { return m.lines("calls") }

func (m *machine) lines(name string) int {
	text, _ := os.ReadFile(filepath.Join(m.root, name))
	return strings.Count(string(text), "\n")
}

func TestWhatTheMachineLacks(t *testing.T) {
	for _, c := range []struct {
		name, java string
		mvn        bool
		want       string
	}{
		{"all", "", false, "no java, of Java 17 or newer; no mvn, of Maven, to fetch it with"},
		{"Java", "", true, "no java, of Java 17 or newer"},
		{"Maven", "17.0.15", false, "no mvn, of Maven, to fetch it with"},
		{"a newer Java", "11.0.2", true, "BIN/java is of Java 11, older than 17"},
		{"a much newer Java", "1.8.0_392", true, "BIN/java is of Java 8, older than 17"},
		{"nothing", "17.0.15", true, ""},
		{"nothing, in the future", "27", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			if c.java != "" {
				m.java(t, c.java)
			}
			if c.mvn {
				m.mvn(t, `mkdir -p "$dir"`)
			}
			err := Fetch(t.Context())
			if c.want == "" {
				must(t, err)
				return
			}
			want := "Apache Kafka cannot run here: " + strings.ReplaceAll(c.want, "BIN", m.bin)
			if !errors.Is(err, ErrTools) || err.Error() != want {
				t.Errorf("\n got %v\nwant %s", err, want)
			}
		})
	}
}

func TestServerIsFetchedOnce(t *testing.T) {
	m := newMachine(t)
	m.java(t, "17")
	// It is at work until all others have come.
	m.mvn(t, `until test -e '`+m.root+`/go'; do sleep 0.01; done; mkdir "$dir" && touch "$dir/kafka.jar"`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := Fetch(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for m.lines("javas") < 8 || m.calls() == 0 {
		select {
		case <-look.C:
		case <-late.C:
			t.Error("not all have come to fetch it")
			m.write(t, filepath.Join(m.root, "go"), "")
			wg.Wait()
			return
		}
	}
	m.write(t, filepath.Join(m.root, "go"), "")
	wg.Wait()
	if n := m.calls(); n != 1 {
		t.Errorf("Maven was called %d times", n)
	}
	s, err := findServer(t.Context())
	must(t, err)
	jars := strings.TrimSuffix(s.jars, "*")
	if !exists(filepath.Join(jars, "kafka.jar")) {
		t.Errorf("no jar in %s", jars)
	}

	// Another version is fetched beside it.
	m.write(t, filepath.Join(m.root, project, "pom.xml"), "<project>2</project>")
	must(t, Fetch(t.Context()))
	if n := m.calls(); n != 2 || !exists(jars) {
		t.Errorf("for two versions Maven was called %d times", n)
	}
}

// A fetch that fails or is killed leaves nothing that would be taken for the server.
func TestFetchThatFails(t *testing.T) {
	m := newMachine(t)
	m.java(t, "17")
	m.mvn(t, `mkdir "$dir" && touch "$dir/half.jar"; echo 'no route to Central'; exit 1`)
	if err := Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "no route to Central") || errors.Is(err, ErrTools) {
		t.Errorf("a Maven that fails: %v", err)
	}
	m.mvn(t, `test ! -e "$dir" && mkdir "$dir"`)
	must(t, Fetch(t.Context()))
	if n := m.calls(); n != 2 {
		t.Errorf("Maven was called %d times", n)
	}
}

func TestLockIsWaitedFor(t *testing.T) {
	m := newMachine(t)
	m.java(t, "17")
	m.mvn(t, `mkdir "$dir"`)
	must(t, os.MkdirAll(filepath.Join(m.root, kept), 0o755))
	lock, err := tryLock(filepath.Join(m.root, kept, "lock"))
	must(t, err)
	late := errors.New("nobody waits any longer")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(late)
	if _, err := fetch(ctx, m.root); !errors.Is(err, late) || !strings.Contains(err.Error(), "wait for the lock") {
		t.Errorf("while another fetches: %v", err)
	}
	if n := m.calls(); n > 0 {
		t.Errorf("while another fetched Maven was called %d times", n)
	}
	must(t, lock.Close())
	must(t, Fetch(t.Context()))
}

func TestPortsAreClaimed(t *testing.T) {
	first, claim, err := claimPorts(6)
	must(t, err)
	if first <= portsFrom || first+6 > portsUntil || (first-1-portsFrom)%blockPorts != 0 {
		t.Errorf("ports from %d", first)
	}
	if again, err := listen(first - 1); err == nil {
		_ = again.Close()
		t.Error("the claim can be taken by another")
	}
	must(t, probePorts(first, 6))
	taken, err := listen(first + 3)
	must(t, err)
	if err := probePorts(first, 6); err == nil || probePorts(first, 3) != nil {
		t.Errorf("with one port taken: %v", err)
	}
	must(t, taken.Close())
	must(t, claim.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
