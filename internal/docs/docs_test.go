package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the directory of the module.
const root = "../.."

// documents returns the Markdown files, by path from root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			all[strings.TrimPrefix(filepath.ToSlash(path), root+"/")] = read(t, path)
		}
	}
	if len(all) < 5 {
		t.Fatalf("only %d documents were found", len(all))
	}
	return all
}

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
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, m := range function.FindAllStringSubmatch(read(t, path), -1) {
				names[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
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
