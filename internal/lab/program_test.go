//go:build unix

package lab

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestProgram: a program has its environment and a folder, is waited for, and
// ends with the lab.
func TestProgram(t *testing.T) {
	l := newLab(t)
	p, err := l.StartProgram(t.Context(), Program{
		Name: "bell", Argv: []string{"/bin/sh", "-c", "echo $WHO rings in $(basename $PWD); exec sleep 1000"}, Env: []string{"WHO=ana"},
		Ready: func(p *Process) (bool, error) {
			text, err := os.ReadFile(p.Log)
			return bytes.HasSuffix(text, []byte("\n")), err
		},
	})
	must(t, err)
	if got, want := p.Tail(1), "ana rings in bell"; got != want {
		t.Errorf("it printed %q; want %q", got, want)
	}
	must(t, l.Close())
	if p.Running() {
		t.Error("it runs still")
	}
}

// TestProgramEnds: one that ends before it is ready says why.
func TestProgramEnds(t *testing.T) {
	l := newLab(t)
	_, err := l.StartProgram(t.Context(), Program{
		Name: "bell", Argv: []string{"/bin/sh", "-c", "echo no rope; exit 3"},
		Ready: func(*Process) (bool, error) { return false, nil },
	})
	if err == nil || !strings.Contains(err.Error(), "no rope") {
		t.Errorf("got error %v; want one with what it printed", err)
	}
}
