package layering

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// foldPackage holds the fold.
const foldPackage = "projector"

// isFold tells whether a file is part of the fold.
func isFold(file string) bool {
	base := filepath.Base(file)
	return !strings.HasSuffix(base, "_test.go") &&
		(base == "fold.go" || strings.HasPrefix(base, "fold_"))
}

// pure lists what the fold may import beside our events and assertions: packages
// whose answers depend on their arguments alone. Not here: time, context, sync,
// log, math/rand, os, reflect, unsafe, and every library.
var pure = []string{
	"bytes", "cmp", "crypto/sha256", "encoding/binary", "encoding/hex", "errors", "fmt", "hash", "iter", "maps",
	"math", "math/bits", "slices", "sort", "strconv", "strings", "unicode", "unicode/utf8",
}

// mayFold tells whether the fold may use a package.
func mayFold(importPath string) bool {
	rel, isOurs := ours(importPath)
	return slices.Contains(pure, importPath) || isOurs && (rel == "events" || rel == invariants)
}

// inOrder lists what the fold may call of the package maps: the others hand out
// a map's keys in an order that differs from run to run. Keys and Values are
// allowed where slices.Sorted or one of its kin takes them at once.
var inOrder = []string{"Clone", "Copy", "Equal", "EqualFunc"}

// What the fold's own files import, under any build tag.
func TestFoldImportsOnlyWhatIsPure(t *testing.T) {
	for _, s := range readTree(t) {
		if s.pkg() != foldPackage || !isFold(s.path) {
			continue
		}
		for _, imp := range s.imports {
			if !mayFold(imp) {
				t.Errorf("%s: the fold must not import %s: only events and %s", s.path, imp, strings.Join(pure, ", "))
			}
		}
	}
}

// What the fold does, and all that it calls in its package.
func TestFoldIsAFunction(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, foldPackage, "fold.go")); errors.Is(err, os.ErrNotExist) {
		t.Skip("there is no fold yet")
	}
	for _, v := range loadFold(t).violations() {
		t.Error(v)
	}
}

// listed is what `go list` says of a package.
type listed struct {
	Dir        string
	ImportPath string
	Export     string // file with the types it exports
	GoFiles    []string
}

// loadFold reads the fold's package with its types. Those of its imports come
// from the build cache.
func loadFold(t *testing.T) *folded {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=Dir,ImportPath,Export,GoFiles", "./"+foldPackage)
	cmd.Dir = root
	// As it ships, whatever this test itself was built with: the build stage has
	// compiled that already.
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list ./%s: %v\n%s", foldPackage, err, stderr.Bytes())
	}
	exports := map[string]string{}
	var target listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		exports[p.ImportPath] = p.Export
		if p.ImportPath == module+"/"+foldPackage {
			target = p
		}
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range target.GoFiles {
		// Opened by a path below the module, so that `go test` knows this result
		// to depend on it.
		f, err := parser.ParseFile(fset, filepath.Join(root, foldPackage, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	f, err := newFolded(fset, files, importer.ForCompiler(fset, "gc", lookup))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// folded walks a package from its fold files along everything they use.
type folded struct {
	fset  *token.FileSet
	files []*ast.File
	pkg   *types.Package
	info  *types.Info

	decls map[types.Object]ast.Node // of the package: functions, methods, types, variables, constants
	seen  map[ast.Node]bool
	queue []ast.Node
	found []string
}

func newFolded(fset *token.FileSet, files []*ast.File, imports types.Importer) (*folded, error) {
	f := &folded{
		fset: fset, files: files, decls: map[types.Object]ast.Node{}, seen: map[ast.Node]bool{},
		info: &types.Info{
			Types: map[ast.Expr]types.TypeAndValue{},
			Defs:  map[*ast.Ident]types.Object{},
			Uses:  map[*ast.Ident]types.Object{},
		},
	}
	conf := types.Config{Importer: imports}
	var err error
	f.pkg, err = conf.Check(module+"/"+foldPackage, fset, files, f.info)
	return f, err
}

func (f *folded) violations() []string {
	for _, file := range f.files {
		fold := isFold(f.fset.Position(file.Pos()).Filename)
		for _, decl := range file.Decls {
			f.declare(decl, fold)
		}
	}
	for len(f.queue) > 0 {
		node := f.queue[0]
		f.queue = f.queue[1:]
		f.walk(node)
	}
	slices.Sort(f.found)
	return slices.Compact(f.found)
}

// declare notes what a declaration defines, and queues it if it is the fold's.
func (f *folded) declare(decl ast.Decl, fold bool) {
	note := func(id *ast.Ident, node ast.Node) {
		if obj := f.info.Defs[id]; obj != nil {
			f.decls[obj] = node
		}
		if fold {
			f.visit(node)
		}
	}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		note(d.Name, d)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				note(s.Name, s)
			case *ast.ValueSpec:
				for _, id := range s.Names {
					note(id, s)
				}
			}
		}
	}
}

func (f *folded) visit(node ast.Node) {
	if !f.seen[node] {
		f.seen[node] = true
		f.queue = append(f.queue, node)
	}
}

func (f *folded) report(at ast.Node, format string, args ...any) {
	p := f.fset.Position(at.Pos())
	f.found = append(f.found, fmt.Sprintf("%s/%s:%d: the fold reaches this: %s",
		foldPackage, filepath.Base(p.Filename), p.Line, fmt.Sprintf(format, args...)))
}

// walk checks a declaration and queues what it uses.
func (f *folded) walk(root ast.Node) {
	ordered := map[ast.Node]bool{} // calls of maps.Keys and its like whose result is sorted
	var inspect func(ast.Node) bool
	inspect = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			if planted, otherwise := plantedIf(n.Cond); planted {
				// The branch with the bug is left out, the other one is not.
				if otherwise {
					ast.Inspect(n.Body, inspect)
				} else if n.Else != nil {
					ast.Inspect(n.Else, inspect)
				}
				return false
			}
		case *ast.CaseClause:
			for _, e := range n.List {
				if planted, otherwise := plantedIf(e); planted && !otherwise {
					return false
				}
			}
		case *ast.GoStmt:
			f.report(n, "it starts a goroutine")
		case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			f.report(n, "it uses a channel")
		case *ast.RangeStmt:
			if isMap(f.info.TypeOf(n.X)) {
				f.report(n, "it walks a map, whose order differs from run to run; walk slices.Sorted(maps.Keys(m))")
			}
		case *ast.CallExpr:
			if f.sorts(n) {
				ordered[ast.Unparen(n.Args[0])] = true
			}
			if name := f.called(n, "maps"); name != "" && !ordered[n] && !slices.Contains(inOrder, name) {
				f.report(n, "maps.%s goes by a map's order, which differs from run to run; sort it at once with slices.Sorted", name)
			}
		case *ast.Ident:
			f.use(n)
		}
		if e, ok := n.(ast.Expr); ok && isFloat(f.info.TypeOf(e)) {
			f.report(n, "it uses a float, which may be rounded differently on another machine")
		}
		return true
	}
	ast.Inspect(root, inspect)
}

// use follows a name to what it stands for.
func (f *folded) use(id *ast.Ident) {
	obj := f.info.Uses[id]
	switch o := obj.(type) {
	case nil:
		return
	case *types.Func:
		obj = o.Origin()
	case *types.Var:
		obj = o.Origin()
	case *types.PkgName:
		return // what is selected from it is judged
	}
	switch {
	case obj.Pkg() == nil || isPlant(id.Name):
	case obj.Pkg() == f.pkg:
		if decl, ok := f.decls[obj]; ok {
			f.visit(decl)
		}
	case !mayFold(obj.Pkg().Path()) && !isDuration(obj):
		f.report(id, "it uses %s of %s, which is not a pure package", id.Name, obj.Pkg().Path())
	}
}

// called returns the name of the function of a package that is called, if any.
func (f *folded) called(call *ast.CallExpr, pkg string) string {
	fun := ast.Unparen(call.Fun)
	if index, ok := fun.(*ast.IndexExpr); ok {
		fun = index.X
	}
	sel, ok := fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if fn, ok := f.info.Uses[sel.Sel].(*types.Func); ok && fn.Pkg() != nil && fn.Pkg().Path() == pkg {
		return fn.Name()
	}
	return ""
}

// sorts tells whether a call sorts the keys or values of a map that it is given.
func (f *folded) sorts(call *ast.CallExpr) bool {
	if len(call.Args) == 0 || !strings.HasPrefix(f.called(call, "slices"), "Sorted") {
		return false
	}
	inner, ok := ast.Unparen(call.Args[0]).(*ast.CallExpr)
	return ok && slices.Contains([]string{"Keys", "Values"}, f.called(inner, "maps"))
}

// isPlant tells whether a name is the switch of a planted bug.
func isPlant(name string) bool { return strings.HasPrefix(name, "plant") }

// plantedIf tells whether a condition holds only with a planted bug, or, with
// otherwise, only without.
func plantedIf(cond ast.Expr) (planted, otherwise bool) {
	switch c := ast.Unparen(cond).(type) {
	case *ast.Ident:
		return isPlant(c.Name), false
	case *ast.UnaryExpr:
		planted, otherwise = plantedIf(c.X)
		return planted && c.Op == token.NOT, !otherwise
	case *ast.BinaryExpr:
		if c.Op != token.LAND {
			return false, false
		}
		if planted, otherwise = plantedIf(c.X); planted && !otherwise {
			return true, false
		}
		if planted, otherwise = plantedIf(c.Y); planted && !otherwise {
			return true, false
		}
	}
	return false, false
}

// isDuration tells whether something belongs to time.Duration, which is a number
// with a unit and asks no clock: limits in events are of this type.
func isDuration(obj types.Object) bool {
	if obj.Pkg().Path() != "time" {
		return false
	}
	t := obj.Type()
	if fn, ok := t.(*types.Signature); ok && fn.Recv() != nil {
		t = fn.Recv().Type()
	}
	named, ok := t.(*types.Named)
	return ok && named.Obj().Name() == "Duration"
}

func isMap(t types.Type) bool {
	if t == nil {
		return false
	}
	if p, ok := t.(*types.TypeParam); ok {
		return anyTerm(p, isMap)
	}
	_, ok := t.Underlying().(*types.Map)
	return ok
}

func isFloat(t types.Type) bool {
	if t == nil {
		return false
	}
	if p, ok := t.(*types.TypeParam); ok {
		return anyTerm(p, isFloat)
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&(types.IsFloat|types.IsComplex) != 0
}

// anyTerm tells whether a type parameter may stand for a type that is like that.
func anyTerm(p *types.TypeParam, like func(types.Type) bool) bool {
	iface, ok := p.Constraint().Underlying().(*types.Interface)
	if !ok {
		return false
	}
	for i := range iface.NumEmbeddeds() {
		switch e := iface.EmbeddedType(i).(type) {
		case *types.Union:
			for j := range e.Len() {
				if like(e.Term(j).Type()) {
					return true
				}
			}
		default:
			if _, nested := e.Underlying().(*types.Interface); !nested && like(e) {
				return true
			}
		}
	}
	return false
}
