package kafka

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrTools says that this machine lacks what Kafka needs; the error that wraps it
// names what. There is nothing to do but to install it.
var ErrTools = errors.New("Apache Kafka cannot run here") //nolint:staticcheck // a name is written with a capital

const (
	// javaMin is the oldest Java that this Kafka runs on.
	javaMin = 17
	// project is where the pinned server stands, from the root of the repository.
	project = "deploy/kafka"
	// kept is where its jars are copied to, each version in a directory of its own.
	kept = "bin/kafka"
	// fetchMax bounds the fetching: 44 MB, and Maven's own parts.
	fetchMax = 10 * time.Minute
)

// server is the Kafka that brokers are started from.
type server struct {
	java string // the command
	root string // of the repository
	jars string // of Kafka and what comes with it, as a class path names them
}

// classpath is that of a broker. The project's directory holds the configuration of
// the brokers' logs.
func (s *server) classpath() string {
	return filepath.Join(s.root, project) + string(filepath.ListSeparator) + s.jars
}

// Fetch brings the server to this machine, if it is not there. It is what Start
// begins with. The repository is that of the working directory.
func Fetch(ctx context.Context) error {
	_, err := findServer(ctx)
	return err
}

// Java returns the command of Java and a class path that has Kafka's own clients, for
// programs that are written against these. It fetches them first, if need be.
func Java(ctx context.Context) (command, classpath string, err error) {
	s, err := findServer(ctx)
	if err != nil {
		return "", "", err
	}
	return s.java, s.jars, nil
}

// findServer returns the server of the repository that the working directory is
// in. It fetches it first, if need be.
func findServer(ctx context.Context) (*server, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	java, err := findJava(ctx)
	if err != nil {
		_, also := findMaven(root) // so that both are installed at once
		return nil, lacking(err, also)
	}
	jars, err := fetch(ctx, root)
	if err != nil {
		return nil, err
	}
	return &server{java: java, root: root, jars: filepath.Join(jars, "*")}, nil
}

// lacking makes one line of what is missing.
func lacking(needs ...error) error {
	var said []string
	for _, err := range needs {
		if err != nil {
			said = append(said, err.Error())
		}
	}
	return fmt.Errorf("%w: %s", ErrTools, strings.Join(said, "; "))
}

// findRoot returns the root of the repository that the working directory is in.
func findRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if exists(pomFile(dir)) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("there is no %s/pom.xml in %s or above", project, wd)
		}
	}
}

var javaVersion = regexp.MustCompile(`version "(?:1\.)?(\d+)`)

// findJava returns the command of a Java that is new enough: that of JAVA_HOME, or
// else the one on the path.
func findJava(ctx context.Context) (string, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	path, err := exec.LookPath(java)
	if err != nil {
		return "", fmt.Errorf("no %s, of Java %d or newer", java, javaMin)
	}
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s -version: %w: %s", path, err, lastLines(out, 1))
	}
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s -version says %q", path, out)
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < javaMin {
		return "", fmt.Errorf("%s is of Java %s, older than %d", path, m[1], javaMin)
	}
	return path, nil
}

// findMaven returns the command that fetches the server; none when it is there.
func findMaven(root string) (string, error) {
	if dir, err := jarsDir(root); err == nil && exists(dir) {
		return "", nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return "", errors.New("no mvn, of Maven, to fetch it with")
	}
	return mvn, nil
}

// jarsDir is the directory of the jars that the repository's project names. It has
// the name of what that file says, and appears whole or not at all.
func jarsDir(root string) (string, error) {
	text, err := os.ReadFile(pomFile(root))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return filepath.Join(root, kept, hex.EncodeToString(sum[:6])), nil
}

func pomFile(root string) string { return filepath.Join(root, project, "pom.xml") }

// fetch makes the directory of the jars, if it is not there.
func fetch(ctx context.Context, root string) (string, error) {
	dir, err := jarsDir(root)
	if err != nil || exists(dir) {
		return dir, err
	}
	mvn, err := findMaven(root)
	if err != nil {
		return "", lacking(err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fetchMax, fmt.Errorf("it took longer than %v", fetchMax))
	defer cancel()
	lock, err := lockFile(ctx, filepath.Join(root, kept, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if exists(dir) { // somebody has fetched it meanwhile
		return dir, nil
	}
	return dir, copyJars(ctx, mvn, pomFile(root), dir)
}

// copyJars makes the directory.
func copyJars(ctx context.Context, mvn, pom, dir string) error {
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil { // what one that was killed has left
		return err
	}
	cmd := exec.CommandContext(ctx, mvn, "--batch-mode", "--quiet", "--strict-checksums", "--file", pom,
		"dependency:copy-dependencies", "-DoutputDirectory="+fresh)
	cmd.SysProcAttr = ownGroup()
	cmd.WaitDelay = endMax // a child of its that lives on holds the output
	if out, err := cmd.CombinedOutput(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("fetch Apache Kafka with %s: %w\n%s", mvn, err, lastLines(out, 15))
	}
	return os.Rename(fresh, dir)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// lastLines returns the end of a text, without the places in Java's code.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "\tat ") })
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
