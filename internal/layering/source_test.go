package layering

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is what one Go file imports.
type source struct {
	path    string // slashed, relative to the module
	imports []string
}

// pkg returns the package that the file belongs to, relative to the module.
func (s source) pkg() string { return path.Dir(s.path) }

// isTest tells whether only `go test` compiles the file.
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// root is the module's directory, seen from this package.
const root = "../.."

// readTree reads the imports of every Go file of the module. It opens the files
// itself instead of asking `go list`, which would see one set of build tags only
// and whose reading `go test` would not notice when it caches this result.
func readTree(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && skippedDir(name, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s, planted, err := parse(filepath.ToSlash(rel), src)
		if err == nil && !planted {
			all = append(all, s)
		}
		return err
	})
	if err != nil {
		t.Fatalf("read the module: %v", err)
	}
	return all
}

// skippedDir tells whether a directory holds no packages of this module.
func skippedDir(name, base string) bool {
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	return err == nil
}

// parse reads a file's imports and whether it is a planted bug.
func parse(name string, src []byte) (s source, planted bool, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return source{}, false, err
	}
	s.path = name
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, false, err
		}
		s.imports = append(s.imports, p)
	}
	return s, needsPlanting(name, f), nil
}

// needsPlanting tells whether a file is compiled only with a tag "planted" or
// "planted_...", or, having no tags at all, is named as a bug. The twin of it
// that is compiled without the tag counts as ordinary.
func needsPlanting(name string, f *ast.File) bool {
	for _, group := range f.Comments {
		if group.Pos() > f.Package {
			break
		}
		for _, c := range group.List {
			if !constraint.IsGoBuild(c.Text) {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			if err != nil {
				continue
			}
			planted := func(tag string) bool { return tag == "planted" || strings.HasPrefix(tag, "planted_") }
			with := expr.Eval(func(string) bool { return true })
			without := expr.Eval(func(tag string) bool { return !planted(tag) })
			return with && !without
		}
	}
	return strings.HasPrefix(path.Base(name), "bug_")
}

// ours strips the module from an import path; ok is false for others' packages.
func ours(importPath string) (rel string, ok bool) {
	return strings.CutPrefix(importPath, module+"/")
}

// packages returns the packages that have non-test files, in order.
func packages(all []source) []string {
	var pkgs []string
	for _, s := range all {
		if !s.isTest() {
			pkgs = append(pkgs, s.pkg())
		}
	}
	slices.Sort(pkgs)
	return slices.Compact(pkgs)
}
