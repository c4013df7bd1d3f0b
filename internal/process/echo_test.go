package process_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalvdb/dalvdb/connectapi"
	"github.com/dalvdb/dalvdb/connectapi/auth"
)

// echoEnv names the file of the keys to a process of this program that is to be an
// echo and to test nothing.
const echoEnv = "PROCESS_ECHO_KEYS"

// echo is a process that answers pushes without a look at them.
type echo struct {
	url string
	pid int
}

// startEcho starts an echo for those who have tokens of the node. It is a process of
// its own, as the node is, so that both are paid for in the same way.
func startEcho(b *testing.B, n *node) *echo {
	b.Helper()
	self, err := os.Executable()
	must(b, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), echoEnv+"="+filepath.Join(n.data, "keys"))
	cmd.SysProcAttr, cmd.Stderr = noOrphan(), os.Stderr
	stdin, err := cmd.StdinPipe()
	must(b, err)
	told := make(chan string, 1)
	cmd.Stdout = &firstLine{then: func(line []byte) { told <- string(line) }}
	must(b, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	b.Cleanup(func() {
		must(b, stdin.Close())
		must(b, <-ended)
	})
	select {
	case url := <-told:
		return &echo{url: strings.TrimSpace(url), pid: cmd.Process.Pid}
	case <-brief(b).Done():
		b.Fatal("the echo does not say where it is")
		return nil
	}
}

// serveEcho is the life of an echo. It ends when its input does.
func serveEcho(keysFile string) error {
	keys, err := auth.ReadKeys(keysFile)
	if err != nil {
		return err
	}
	verifier, err := auth.NewVerifier(auth.Config{Keys: keys})
	if err != nil {
		return err
	}
	defer verifier.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := connectapi.NewServer(connectapi.NewEcho(verifier), nil, nil)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	if _, err = fmt.Fprintf(os.Stdout, "http://%s\n", l.Addr()); err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	err = errors.Join(err, server.Close())
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
