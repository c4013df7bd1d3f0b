package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func saying(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// A pipe that has a name is written to, and is still there.
func TestWriteFileGoesThroughAPipe(t *testing.T) {
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pipe", link); err != nil {
		t.Fatal(err)
	}
	// Without it the open would wait for who writes, which may be nobody.
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, path := range []string{pipe, link} {
		if err := checkTarget(path); err != nil {
			t.Error(err)
		}
		if err := writeFile(path, saying(path)); err != nil {
			t.Error(err)
		}
		if got, err := io.ReadAll(reader); err != nil || string(got) != path {
			t.Errorf("%s: %q came through, %v", path, got, err)
		}
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("the pipe is %v now, %v", info.Mode(), err)
	}
	wantLink(t, link, "pipe")
	wantNames(t, dir, "link", "pipe")
}

// Of a symlink it is the file behind it that is replaced, as a whole or not at
// all, whether it was there or not.
func TestWriteFileReplacesWhatALinkLeadsTo(t *testing.T) {
	dir := t.TempDir()
	// A name with ".." in it is the parent of where a link leads, not of the link.
	for _, d := range []string{"near", "far", "far/deep"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"near/hop": "../far/deep", "near/one": "hop/../two", "far/two": dir + "/far/deep/file"}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	one, file := filepath.Join(dir, "near/one"), filepath.Join(dir, "far/deep/file")
	if err := writeFile(one, func(io.Writer) error { return io.ErrUnexpectedEOF }); err == nil {
		t.Error("a part is taken")
	}
	wantNames(t, filepath.Dir(file))
	for _, text := range []string{"first", "second"} {
		if err := checkTarget(one); err != nil {
			t.Error(err)
		}
		if err := writeFile(one, saying(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("%q, want %q, %v", got, text, err)
		}
	}
	for name, to := range links {
		wantLink(t, filepath.Join(dir, name), to)
	}
	wantNames(t, filepath.Join(dir, "near"), "hop", "one")
	wantNames(t, filepath.Join(dir, "far"), "deep", "two")
	wantNames(t, filepath.Dir(file), "file")
}

// A link that leads nowhere a file could be is told before anything is asked for.
func TestCheckTargetFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct{ to, say string }{
		"lost":   {"nowhere/file", dir + "/nowhere: no such file or directory"},
		"circle": {"circle", "too many levels of symbolic links"},
		"up":     {".", "is a directory"},
	} {
		path := filepath.Join(dir, name)
		if err := os.Symlink(tt.to, path); err != nil {
			t.Fatal(err)
		}
		err := checkTarget(path)
		if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), tt.say) || !strings.Contains(err.Error(), "FILE "+path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func wantLink(t *testing.T, path, to string) {
	t.Helper()
	if got, err := os.Readlink(path); err != nil || got != to {
		t.Errorf("%s leads to %q, want %q, %v", path, got, to, err)
	}
}

// wantNames wants these in a directory and no other.
func wantNames(t *testing.T, dir string, names ...string) {
	t.Helper()
	var got []string
	left, err := os.ReadDir(dir)
	for _, e := range left {
		got = append(got, e.Name())
	}
	if err != nil || strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("in %s are %v, want %v, %v", dir, got, names, err)
	}
}
