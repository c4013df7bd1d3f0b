package layering

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// The fold's rules are shown one violation of each kind, in a package of two
// files: what the fold itself does, and what another file does for it.
func TestImpureFoldsAreFound(t *testing.T) {
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "source", nil)
	for _, c := range []struct {
		name, fold, other string
		want              string // part of the violation; "" if there is none
	}{
		{name: "sums a slice", fold: `func fold(s []int) (n int) { for _, v := range s { n += v }; return n }`},
		{name: "sorts a map's keys", fold: `import ("maps"; "slices")
			func fold(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }`},
		{name: "looks up in a map", fold: `func fold(m map[string]int) int { return m["a"] + len(m) }`},
		{name: "calls a pure neighbour", fold: `func fold() int { return two() }`, other: `func two() int { return 2 }`},
		{name: "is the neighbour of an impure one", fold: `func fold() {}`, other: `import "time"
			func now() int64 { return time.Now().Unix() }`},
		{name: "has a bug planted", fold: `func fold(m map[int]int) { if plantOrder { for range m {} } }`, other: `const plantOrder = false`},
		{name: "has a bug planted on a condition", fold: `func fold(m map[int]int) { if len(m) > 1 && plantOrder { for range m {} } }`, other: `const plantOrder = false`},
		{name: "has a bug planted in a case", fold: `func fold(m map[int]int) { switch { case plantOrder: for range m {} } }`, other: `const plantOrder = false`},
		{name: "has a planted twin", fold: `func fold(m map[int]int) { if !plantOrder { return } else { for range m {} } }`, other: `const plantOrder = false`},
		{name: "reckons with durations", fold: `func fold(at int64) int64 { return at + window.Milliseconds() }`, other: `import "time"
			const window = 24 * time.Hour`},

		{name: "walks a map", fold: `func fold(m map[string]int) (n int) { for _, v := range m { n += v }; return n }`, want: "walks a map"},
		{name: "walks a named map", fold: `type set map[int]bool
			func fold(s set) { for range s {} }`, want: "walks a map"},
		{name: "walks a generic map", fold: `func fold[M ~map[int]int](m M) { for range m {} }`, want: "walks a map"},
		{name: "walks a map beside a planted bug", fold: `func fold(m map[int]int) { if plantOrder { return } else { for range m {} } }`, other: `const plantOrder = false`, want: "walks a map"},
		{name: "walks a map unless a bug is planted", fold: `func fold(m map[int]int) { if !plantOrder { for range m {} } }`, other: `const plantOrder = false`, want: "walks a map"},
		{name: "lists a map's keys", fold: `import ("maps"; "slices")
			func fold(m map[string]int) []string { return slices.Collect(maps.Keys(m)) }`, want: "maps.Keys"},
		{name: "walks a map by iterator", fold: `import "maps"
			func fold(m map[string]int) { for range maps.All(m) {} }`, want: "maps.All"},
		{name: "looks at the clock", fold: `import "time"
			func fold() int64 { return time.Now().Unix() }`, want: "Now of time"},
		{name: "rolls dice", fold: `import "math/rand/v2"
			func fold() int { return rand.Int() }`, want: "Int of math/rand/v2"},
		{name: "starts a goroutine", fold: `func fold() { go func() {}() }`, want: "goroutine"},
		{name: "sends", fold: `func fold(c chan int) { c <- 1 }`, want: "channel"},
		{name: "counts in floats", fold: `func fold(n int) int { return int(float64(n) * 1) }`, want: "float"},
		{name: "has a float in its state", fold: `type state struct { ratio float32 }
			func fold(s state) {}`, want: "float"},
		{name: "divides constants", fold: `func fold() bool { return 1.5 > 1 }`, want: "float"},
		{name: "calls one who walks a map", fold: `func fold() { sum(nil) }`, other: `func sum(m map[int]int) { for range m {} }`, want: "other.go:4: the fold reaches this: it walks a map"},
		{name: "calls a method that reads the clock", fold: `func fold(s state) int64 { return s.at() }`, other: `import "time"
			type state struct{}
			func (state) at() int64 { return time.Now().Unix() }`, want: "Now of time"},
		{name: "has a state with a lock", fold: `func fold(s *state) { s.n++ }`, other: `import "sync"
			type state struct { mu sync.Mutex; n int }`, want: "Mutex of sync"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var files []*ast.File
			for name, src := range map[string]string{"fold.go": c.fold, "other.go": c.other} {
				f, err := parser.ParseFile(fset, name, "package projector\n\n\n"+src, parser.SkipObjectResolution)
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, f)
			}
			f, err := newFolded(fset, files, imports)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(f.violations(), "\n")
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("\n got %q\nwant %q", got, c.want)
			}
		})
	}
}
