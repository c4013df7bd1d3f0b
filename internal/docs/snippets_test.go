package docs

import (
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Go that a document shows is Go that is compiled: every block of it stands word for
// word, but for its indentation, in an Example function. A whole program stands in
// README.md alone, where package process runs it.
func TestSnippetsAreCompiled(t *testing.T) {
	examples := strings.Join(examples(t), "\n\x00\n") // no snippet goes from one into the next
	found := 0
	check := func(where, snippet string) {
		found++
		program := strings.Contains(snippet, "package main\n")
		if program && where == "README.md" {
			return
		}
		if !strings.Contains("\n"+examples+"\n", "\n"+flat(snippet)+"\n") {
			t.Errorf("%s: this stands in no Example function:\n%s", where, snippet)
		}
	}
	for doc, text := range documents(t) {
		for _, snippet := range fenced(text) {
			check(doc, snippet)
		}
	}
	for path, text := range files(t, func(name string) bool { return strings.HasSuffix(name, ".go") }) {
		for _, snippet := range commented(t, path, text) {
			check(path, snippet)
		}
	}
	if found < 9 {
		t.Errorf("only %d snippets were found: they are written otherwise now", found)
	}
}

// flat returns the lines without their indentation.
func flat(snippet string) string {
	lines := strings.Split(strings.TrimSpace(snippet), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// fenced returns the blocks of a document that say that they are Go.
func fenced(text string) []string {
	var all []string
	for _, m := range regexp.MustCompile("(?ms)^[ \t]*```go\\b[^\n]*\n(.*?)^[ \t]*```").FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// commented returns the blocks of a file's comments that are Go. Most are drawings of a
// format, or lines of a shell or a script.
func commented(t *testing.T, path, text string) []string {
	t.Helper()
	file := parse(t, path, text)
	if ast.IsGenerated(file) {
		return nil
	}
	var all []string
	for _, group := range file.Comments {
		var p comment.Parser
		for _, b := range p.Parse(group.Text()).Content {
			if code, ok := b.(*comment.Code); ok && isGo(code.Text) {
				all = append(all, code.Text)
			}
		}
	}
	return all
}

// isGo reports whether a block means to be Go: it can be read as such, or has what
// nothing else has.
func isGo(text string) bool {
	for _, whole := range []string{"package p\n" + text, "package p\nfunc _() {\n" + text + "\n}"} {
		if _, err := parser.ParseFile(token.NewFileSet(), "", whole, 0); err == nil {
			return true
		}
	}
	return regexp.MustCompile(`(?m) := |^func \w|^if .* \{$|\breturn err\b`).MatchString(text)
}

// examples returns the bodies of all Example functions, flat.
func examples(t *testing.T) []string {
	t.Helper()
	var all []string
	for path, text := range files(t, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
		file := parse(t, path, text)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Example") {
				continue
			}
			// Positions count from 1, and this is the only file of its set.
			all = append(all, flat(text[f.Body.Lbrace:f.Body.Rbrace-1]))
		}
	}
	return all
}

func parse(t *testing.T, path, text string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Base(path), text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// What finds snippets is shown one of each kind.
func TestSnippetsAreFound(t *testing.T) {
	text := "words\n```go\na := 1\n```\n\n   ```go\n   b()\n   ```\n```sh\ngo run .\n```\n"
	if got := fenced(text); len(got) != 2 || flat(got[0]) != "a := 1" || flat(got[1]) != "b()" {
		t.Errorf("found %q", got)
	}
	code := "// Package p is like this:\n//\n//\tx := f()\n//\tif x {\n//\t\treturn\n//\t}\n//\n// and is stored as\n//\n//\t00 \"format\"  version\npackage p\n"
	if got := commented(t, "p.go", code); len(got) != 1 || !strings.HasPrefix(got[0], "x := f()") {
		t.Errorf("found %q", got)
	}
	for text, want := range map[string]bool{
		"f(x)": true, "x, err := broken(": true, "go test ./...": false, "node [partitions=N]   first": false, "type T struct{ A int }": true,
	} {
		if isGo(text) != want {
			t.Errorf("%q is Go: %v", text, !want)
		}
	}
}
