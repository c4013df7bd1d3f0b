package process_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReadme does what README.md says, literally, as somebody who has just
// found the project: in an empty directory, with a fresh clone of what is
// committed, on a machine where nothing else listens.
//
// The convention, by the language after the three backticks:
//
//	sh    Is run, all of them in order and in one bash, which stops at the first
//	      command that fails. So variables and cd hold from one to the next. If
//	      the last command of a block has the word "serve" it is a node: it runs
//	      beside the blocks after it, which begin when it is ready, and ends with
//	      SIGTERM when all is done.
//	go    Is a whole program (package main). It is run with "go run" inside the
//	      module, where the sh blocks stand by then.
//	text  Directly after one of the others: what that prints on standard output.
//	      Its lines must come in this order; "..." in a line is anything, and
//	      however many spaces are as good as one.
//
// Any other language, and none, is only shown. "git clone" of the repository's
// own address gets the clone from this machine, and "go install" installs to
// where the next command is found.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing of this is shorter, and the race detector has no part in it")
	}
	root := repository(t)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := readmeBlocks(string(readme))
	if len(blocks) == 0 {
		t.Fatal("README.md has no block that can be run")
	}
	dir := t.TempDir()
	script := readmeScript(dir, blocks)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := alone(ctx, "bash", "-c", script)
	cmd.Dir = filepath.Join(dir, "work")
	if err := os.Mkdir(cmd.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cleanEnv(), "GOWORK=off", "GOBIN="+filepath.Join(dir, "bin"),
		"PATH="+filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"),
		"GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=url."+root+".insteadOf", "GIT_CONFIG_VALUE_0=https://github.com/dalvdb/dalvdb",
		"GIT_CONFIG_KEY_1=safe.directory", "GIT_CONFIG_VALUE_1=*")
	var told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &told, &told
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, told.String(), lastOutput(dir))
	}
	for i, b := range blocks {
		if b.prints == "" {
			continue
		}
		out, err := os.ReadFile(outputOf(dir, i))
		if err != nil {
			t.Fatal(err)
		}
		if missing := missingLine(string(out), b.prints); missing != "" {
			t.Errorf("line %d: the block prints no (further) line %q:\n%s", b.line, missing, out)
		}
	}
}

// TestReadmeConvention holds the extraction to what TestReadme's comment says.
func TestReadmeConvention(t *testing.T) {
	readme := strings.Join([]string{
		"# Name", "```sh", "cd x", "dalvdb serve \\", "  --data y", "```", "words",
		"```sh", "# a comment", "dalvdb get ann", "```", "", "```text", "dark ... blue", "end", "```",
		"```console", "$ not run", "```", "```go", "package main", "```",
	}, "\n")
	blocks := readmeBlocks(readme)
	if len(blocks) != 3 {
		t.Fatalf("got %d blocks, want 3: %+v", len(blocks), blocks)
	}
	before, node := blocks[0].split()
	if before != "cd x\n" || node != "dalvdb serve \\\n  --data y" {
		t.Errorf("split a node's block into %q and %q", before, node)
	}
	if before, node := blocks[1].split(); node != "" || !strings.Contains(before, "get ann") {
		t.Errorf("split a plain block into %q and %q", before, node)
	}
	if got := missingLine("first\ndark  and   blue \nend\n", blocks[1].prints); got != "" {
		t.Errorf("line %q is missed, and it is there", got)
	}
	if got := missingLine("end\ndark and blue\n", blocks[1].prints); got != "end" {
		t.Errorf("missed %q, want the line that comes too early", got)
	}
	if blocks[2].language != "go" || blocks[2].prints != "" {
		t.Errorf("the last block is %+v", blocks[2])
	}
}

// block is one fenced block that is run.
type block struct {
	line     int // of README.md, where it begins
	language string
	text     string
	prints   string // what the text block after it says; "" when there is none
}

// split returns the commands of a block, and that of a node at its end, if
// there is one.
func (b block) split() (commands, node string) {
	lines := strings.Split(strings.TrimSpace(b.text), "\n")
	last := len(lines) - 1
	for last > 0 && strings.HasSuffix(lines[last-1], `\`) {
		last--
	}
	node = strings.Join(lines[last:], "\n")
	if b.language != "sh" || !regexp.MustCompile(`\bserve\b`).MatchString(node) {
		return b.text, ""
	}
	commands = strings.Join(lines[:last], "\n")
	if commands != "" {
		commands += "\n"
	}
	return commands, node
}

func readmeBlocks(readme string) (blocks []block) {
	var (
		open  *block
		after = -1 // the block that a text block would belong to
	)
	lines := bufio.NewScanner(strings.NewReader(readme))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		fence := strings.HasPrefix(line, "```")
		switch {
		case fence && open == nil:
			language, _, _ := strings.Cut(strings.TrimPrefix(line, "```"), " ")
			open = &block{line: n, language: language}
		case fence:
			switch {
			case open.language == "sh" || open.language == "go":
				blocks = append(blocks, *open)
				after = len(blocks) - 1
			case open.language == "text" && after >= 0:
				blocks[after].prints, after = open.text, -1
			default:
				after = -1
			}
			open = nil
		case open != nil:
			open.text += line + "\n"
		case strings.TrimSpace(line) != "":
			after = -1
		}
	}
	return blocks
}

// readmeScript is one bash script of all blocks; the output of each goes to a
// file of its own.
func readmeScript(dir string, blocks []block) string {
	var s strings.Builder
	// -m: each node has a process group of its own, to be ended whole.
	s.WriteString("set -euom pipefail\nnodes=\ntrap 'for n in $nodes; do kill -KILL -- -$n 2>/dev/null || true; done' EXIT\n")
	for i, b := range blocks {
		out := outputOf(dir, i)
		fmt.Fprintf(&s, "echo '=== README.md, line %d' >&2\n", b.line)
		if b.language == "go" {
			fmt.Fprintf(&s, "mkdir -p readme_example\ncat >readme_example/main.go <<'END OF PROGRAM'\n%sEND OF PROGRAM\n", b.text)
			fmt.Fprintf(&s, "go vet ./readme_example\ngo run ./readme_example >%s\n", out)
			continue
		}
		commands, node := b.split()
		if strings.TrimSpace(commands) != "" {
			fmt.Fprintf(&s, "{\n%s} >%s\n", commands, out)
		}
		if node != "" {
			fmt.Fprintf(&s, "%s >>%s 2>%s.log &\nnodes=\"$nodes $!\"\n", node, out, out)
			fmt.Fprintf(&s, "until curl -sf -o /dev/null http://127.0.0.1:7470/readyz; do kill -0 $! && sleep 0.1; done\n")
		}
	}
	// What a shell or "go run" around the node ends with says nothing.
	s.WriteString("for n in $nodes; do kill -TERM -- -$n; wait $n || true; done\n")
	s.WriteString("for n in $nodes; do while kill -0 -- -$n 2>/dev/null; do sleep 0.1; done; done\nnodes=\n")
	return s.String()
}

func outputOf(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("block%d", i)) }

// lastOutput returns what the last blocks have printed and logged.
func lastOutput(dir string) string {
	var all strings.Builder
	names, _ := filepath.Glob(filepath.Join(dir, "block*"))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		fmt.Fprintf(&all, "--- %s\n%s", filepath.Base(name), text)
	}
	return all.String()
}

// missingLine returns the first line of want that does not follow in got, ""
// when all do.
func missingLine(got, want string) string {
	words := func(line string) string { return strings.Join(strings.Fields(line), " ") }
	lines := strings.Split(got, "\n")
	for w := range strings.Lines(want) {
		if w = words(w); w == "" {
			continue
		}
		like := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(w), `\.\.\.`, ".*") + "$")
		at := 0
		for at < len(lines) && !like.MatchString(words(lines[at])) {
			at++
		}
		if at == len(lines) {
			return w
		}
		lines = lines[at+1:]
	}
	return ""
}

// repository returns the root of the working tree; without one, as in an
// unpacked archive, there is nothing to clone.
func repository(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		t.Skipf("not in a clone: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// alone returns a command that runs where nothing else listens on loopback, if
// this machine allows it; otherwise the usual ports must be free.
func alone(ctx context.Context, name string, args ...string) *exec.Cmd {
	inside := append([]string{"--net", "bash", "-c", `ip link set lo up && exec "$@"`, "bash", name}, args...)
	for _, how := range [][]string{{}, {"--map-root-user"}} {
		probe := append(append([]string(nil), how...), "--net", "ip", "link", "set", "lo", "up")
		if exec.CommandContext(ctx, "unshare", probe...).Run() == nil {
			return exec.CommandContext(ctx, "unshare", append(append([]string(nil), how...), inside...)...)
		}
	}
	return exec.CommandContext(ctx, name, args...)
}

// cleanEnv is the environment without what the command would take from it.
func cleanEnv() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DALVDB_") {
			env = append(env, v)
		}
	}
	return env
}
