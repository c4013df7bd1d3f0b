package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
)

// What deploy/ says of this command, its flags and its ports is so. That an image
// can be built of it takes a container engine, which the tests do not.

const deploy = "../../deploy"

func readDeploy(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// instructions returns what a Dockerfile says, by instruction.
func instructions(text string) map[string][]string {
	said := map[string][]string{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "#" && name != "" {
			said[name] = append(said[name], rest)
		}
	}
	return said
}

func TestDockerfileIsOfThisCommand(t *testing.T) {
	text := readDeploy(t, "Dockerfile")
	said := instructions(text)
	if want := "golang:" + goVersion(t) + " AS build"; len(said["FROM"]) != 2 || said["FROM"][0] != want || said["FROM"][1] != "scratch" {
		t.Errorf("FROM %q, want %q and scratch", said["FROM"], want)
	}
	if !slices.Equal(said["EXPOSE"], []string{port(t, defaultListen) + " " + port(t, defaultBackendListen)}) {
		t.Errorf("EXPOSE %q, want the ports of serve", said["EXPOSE"])
	}
	if user := said["USER"]; len(user) != 1 || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user[0]) {
		t.Errorf("USER %q, want a number that is not root's", user)
	}
	if len(said["VOLUME"]) != 1 || !slices.Equal(said["ENV"], []string{envName("data") + "=" + said["VOLUME"][0]}) {
		t.Errorf("ENV %q, want that the data is in the volume, %q", said["ENV"], said["VOLUME"])
	}
	if !slices.Equal(said["ENTRYPOINT"], []string{`["/dalvdb"]`}) {
		t.Errorf("ENTRYPOINT %q", said["ENTRYPOINT"])
	}
	for _, cmd := range said["CMD"] {
		var args []string
		if err := json.Unmarshal([]byte(cmd), &args); err != nil {
			t.Fatalf("CMD %s: %v", cmd, err)
		}
		parses(t, args)
	}
	for _, made := range []string{"/src/bin/dalvdb /dalvdb", "/empty /data"} {
		if !strings.Contains(text, made+"\n") {
			t.Errorf("it does not copy %s", made)
		}
	}
	if makefile, err := os.ReadFile("../../Makefile"); err != nil || !strings.Contains(string(makefile), "-X main.version=$(VERSION)") ||
		!strings.Contains(string(makefile), "-o bin/dalvdb ") {
		t.Errorf("make build takes no VERSION, or does not make bin/dalvdb: %v", err)
	}
}

// composed is what is looked at of the files of compose.
type composed struct {
	Services map[string]struct {
		Image       string
		Environment map[string]string
		Build       struct{ Context, Dockerfile string }
		Command     []string
		Ports       []string
		Volumes     []string
		Healthcheck struct{ Test []string }
		Grace       string `json:"stop_grace_period"`
	}
	Volumes map[string]any
}

func readCompose(t *testing.T, name string) (c composed) {
	t.Helper()
	raw, err := yaml.Parser().Unmarshal([]byte(readDeploy(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeIsOfThisCommand(t *testing.T) {
	c := readCompose(t, "compose.yaml")
	node, ok := c.Services["node"]
	if !ok {
		t.Fatal("there is no node")
	}
	if _, err := os.Stat(filepath.Join(deploy, node.Build.Context, node.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	flags := parses(t, node.Command)
	if len(node.Healthcheck.Test) < 2 || !slices.Equal(node.Healthcheck.Test[:2], []string{"CMD", "/dalvdb"}) {
		t.Fatalf("health is asked with %q", node.Healthcheck.Test)
	}
	parses(t, node.Healthcheck.Test[2:])
	want := []string{port(t, flags["listen"]), port(t, flags["backend-listen"])}
	var got []string
	for _, p := range node.Ports {
		got = append(got, p[strings.LastIndex(p, ":")+1:])
	}
	if !slices.Equal(got, want) {
		t.Errorf("ports %q are published, the node listens on %q", got, want)
	}
	// Without TLS backends are for this machine only.
	if !strings.HasPrefix(node.Ports[1], "127.0.0.1:") {
		t.Errorf("the port of backends is published as %q", node.Ports[1])
	}
	for _, v := range node.Volumes {
		name, at, _ := strings.Cut(v, ":")
		if _, ok := c.Volumes[name]; !ok || !slices.Contains(instructions(readDeploy(t, "Dockerfile"))["VOLUME"], at) {
			t.Errorf("volume %s is not there, or not where the data is", v)
		}
	}
	grace, err := time.ParseDuration(node.Grace)
	if limit := stopLimits(); err != nil || grace < limit {
		t.Errorf("it is killed after %v, %v: a stop may take %v", grace, err, limit)
	}
}

// With Kafka the same node, of the same ports and data, has its log on a broker of the
// version that is tested here, whose topics are made first.
func TestComposeWithKafka(t *testing.T) {
	c, alone := readCompose(t, "compose.kafka.yaml"), readCompose(t, "compose.yaml")
	broker := c.Services["kafka"]
	pom := readDeploy(t, filepath.Join("kafka", "pom.xml"))
	if v, ok := strings.CutPrefix(broker.Image, "apache/kafka:"); !ok || !strings.Contains(pom, "<kafka.version>"+v+"</kafka.version>") {
		t.Errorf("the broker is %s, another one than that of deploy/kafka", broker.Image)
	}
	at, ok := strings.CutPrefix(broker.Environment["KAFKA_ADVERTISED_LISTENERS"], "PLAINTEXT://")
	if !ok || !strings.Contains(broker.Environment["KAFKA_LISTENERS"], "PLAINTEXT://:"+port(t, at)) {
		t.Errorf("the broker is told at %q, and listens on %q", at, broker.Environment["KAFKA_LISTENERS"])
	}
	topics, node, before := parses(t, c.Services["topics"].Command), parses(t, c.Services["node"].Command), parses(t, alone.Services["node"].Command)
	for name, flags := range map[string]map[string]string{"topics": topics, "node": node} {
		if flags["brokers"] != "["+at+"]" {
			t.Errorf("%s looks for brokers at %s", name, flags["brokers"])
		}
	}
	if topics["replication-factor"] != "1" || node["allow-weak-topics"] != "true" || node["log"] != kafkaLog {
		t.Errorf("one broker has one copy: %v, %v", topics, node)
	}
	for _, name := range []string{"listen", "backend-listen", "topic-prefix"} {
		if node[name] != before[name] {
			t.Errorf("--%s is %s, and %s in compose.yaml", name, node[name], before[name])
		}
	}
	if v := c.Services["topics"].Image; v != alone.Services["node"].Image {
		t.Errorf("topics are made by the image %s", v)
	}
	for _, v := range broker.Volumes {
		name, dir, _ := strings.Cut(v, ":")
		if _, ok := c.Volumes[name]; !ok || dir != broker.Environment["KAFKA_LOG_DIRS"] {
			t.Errorf("volume %s is not there, or not where the data is", v)
		}
	}
}

// parses checks that a command line is one of ours and returns its flags.
func parses(t *testing.T, args []string) map[string]string {
	t.Helper()
	cmd, rest, err := testRoot().Find(args)
	if err != nil || cmd == cmd.Root() {
		t.Fatalf("%q: no verb: %v", args, err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	values := map[string]string{}
	for name := range flagNames(cmd) {
		if f := cmd.Flag(name); f != nil {
			values[name] = f.Value.String()
		}
	}
	return values
}

// stopLimits is how long a node may take to stop.
func stopLimits() (all time.Duration) {
	for _, s := range (&node{}).stopSteps() {
		all += s.limit
	}
	return all
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// goVersion is the one that go.mod asks for, without its last part.
func goVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("go.mod asks for no version of Go")
	}
	return m[1]
}
