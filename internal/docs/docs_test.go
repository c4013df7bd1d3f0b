package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the directory of the module.
const root = "../.."

// documents returns the Markdown files, by path from root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := files(t, func(name string) bool { return strings.HasSuffix(name, ".md") })
	if len(all) < 5 {
		t.Fatalf("only %d documents were found", len(all))
	}
	return all
}

// files returns the files of the repository whose names are wanted, by path from
// root. What is hidden, ignored or built is not the repository's.
func files(t *testing.T, wanted func(name string) bool) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := d.Name(); {
		case d.IsDir() && path != root && (strings.HasPrefix(name, ".") || slices.Contains(notOurs, name)):
			return fs.SkipDir
		case !d.IsDir() && wanted(name):
			all[strings.TrimPrefix(filepath.ToSlash(path), root+"/")] = read(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// notOurs are directories that git ignores.
var notOurs = []string{"bin", "data", "devices", "node_modules"}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tests returns the names of all tests, benchmarks and fuzz targets.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`)
	for _, text := range files(t, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
		for _, m := range function.FindAllStringSubmatch(text, -1) {
			names[m[1]] = true
		}
	}
	return names
}

func TestNamedTestsExist(t *testing.T) {
	known := tests(t)
	name := regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z]\\w*)[`/]")
	found := 0
	for doc, text := range documents(t) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			if found++; !known[m[1]] {
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d tests are named: they are written otherwise now", found)
	}
}

func TestNamedFilesExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)[)#]`)
	file := regexp.MustCompile("`([\\w./-]+/[\\w.-]+\\.(?:go|proto|md|txt|yml|yaml))`")
	for doc, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if !exists(filepath.Join(root, filepath.Dir(doc), m[1])) {
				t.Errorf("%s links to %s, which is not there", doc, m[1])
			}
		}
		for _, m := range file.FindAllStringSubmatch(text, -1) {
			if !exists(filepath.Join(root, m[1])) {
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestNamedTargetsExist(t *testing.T) {
	targets := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(read(t, filepath.Join(root, "Makefile")), -1) {
		targets[m[1]] = true
	}
	for doc, text := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^ *|`)make ([a-z-]+)").FindAllStringSubmatch(text, -1) {
			if !targets[m[1]] {
				t.Errorf("%s says make %s, which is no target", doc, m[1])
			}
		}
	}
}

// Every scenario is found from the document whose rules it tells, and says which
// section that is.
func TestScenariosAreTold(t *testing.T) {
	sync := read(t, filepath.Join(root, "docs/sync.md"))
	said := regexp.MustCompile(`"([^"]+)" in docs/sync\.md\.`)
	stories := files(t, func(name string) bool { return strings.HasSuffix(name, ".txt") })
	found := 0
	for path, text := range stories {
		if filepath.Dir(path) != "sdk/scenarios" {
			continue
		}
		found++
		if !strings.Contains(sync, "(../"+path+")") {
			t.Errorf("docs/sync.md does not link to %s", path)
		}
		prose, _, _ := strings.Cut(text, "\n\n")
		prose = strings.ReplaceAll(prose, "\n# ", " ")
		if m := said.FindStringSubmatch(prose); len(m) == 0 || !strings.Contains(sync, "\n## "+m[1]+"\n") {
			t.Errorf("%s does not say which section of docs/sync.md it tells", path)
		}
	}
	if found < 20 {
		t.Errorf("only %d scenarios were found", found)
	}
}
