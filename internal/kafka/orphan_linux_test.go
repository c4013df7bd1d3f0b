package kafka_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/internal/kafka/kafkatest"
)

func TestNoBrokerOutlivesItsStarter(t *testing.T) {
	if testing.Short() {
		t.Skip("for full runs")
	}
	kafkatest.Need(t)
	starter := exec.Command(os.Args[0])
	starter.Env = append(os.Environ(), orphanVariable+"="+t.TempDir())
	stdin, err := starter.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := starter.StdoutPipe()
	must(t, err)
	must(t, starter.Start())
	t.Cleanup(func() { _ = starter.Process.Kill(); _ = starter.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	addr := strings.TrimSpace(line)
	if _, _, err := net.SplitHostPort(addr); err != nil || !listens(addr) {
		t.Fatalf("the starter says %q", line)
	}
	must(t, starter.Process.Kill())
	_ = starter.Wait()
	await(t, "the broker has ended", func() bool { return !listens(addr) })
}
