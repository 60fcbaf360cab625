package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSplice: a document keeps all but what is between the marks.
func TestSplice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is replaced by itself
		if err := Splice(path, "x", "\nnew\n"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if want := "before\n<!-- x -->\n\nnew\n\n<!-- /x -->\nafter\n"; err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	if err := Splice(path, "y", "new"); err == nil || !strings.Contains(err.Error(), "<!-- y -->") {
		t.Errorf("a name without marks: got %v; want it named", err)
	}
}

func TestOf(t *testing.T) {
	same := func(v float64) float64 { return v }
	if got, want := Of([]float64{5, 1, 9}, same), (Spread{Median: 5, Min: 1, Max: 9, Runs: 3}); got != want {
		t.Errorf("of three: got %+v; want %+v", got, want)
	}
	if got := Median([]float64{4, 2}, same); got != 4 {
		t.Errorf("of an even number: got %v; want the upper of the two, 4", got)
	}
	if got := Of(nil, same); got != (Spread{}) {
		t.Errorf("of none: got %+v; want nothing", got)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	Table(&b, "name", "value", "of a")
	Row(&b, "a", "2", Times(2, 2))
	Row(&b, "b", "50", Times(50, 2))
	Row(&b, "c", "2", Times(2, 0))
	want := "| name | value | of a |\n| --- | --: | --: |\n| a | 2 | 1.00× |\n| b | 50 | 25× |\n| c | 2 |  |\n"
	if b.String() != want {
		t.Errorf("got %s; want %s", b.String(), want)
	}
}

func TestWriteRead(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, "x.json", []int{1, 2}); err != nil {
		t.Fatal(err)
	}
	if got, err := Read[[]int](dir, "x.json"); err != nil || len(*got) != 2 {
		t.Errorf("got %v, %v; want what was written", got, err)
	}
	if _, err := Read[string](dir, "x.json"); err == nil || !strings.Contains(err.Error(), "x.json") {
		t.Errorf("as something else: got %v; want the file named", err)
	}
}

// TestWrite: a folder that is not there yet, as bench/out in a fresh checkout,
// is made, and what was written is read.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bench", "out")
	want := Spread{Median: 2, Min: 1, Max: 3, Runs: 3}
	if err := Write(dir, "x.json", want); err != nil {
		t.Fatal(err)
	}
	got, err := Read[Spread](dir, "x.json")
	if err != nil || *got != want {
		t.Errorf("read %+v, %v; want %+v", got, err, want)
	}
}
