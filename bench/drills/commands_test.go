//go:build unix

package main

import (
	"maps"
	"os/exec"
	"slices"
	"testing"
)

// TestCommands: the document has the blocks that drills run, each once, and bash
// can read them.
func TestCommands(t *testing.T) {
	blocks, err := commands("../../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"check", "checkpoint-restore", "checkpoint-save", "ledger-restore", "ledger-save", "logs-save", "node-restore", "node-save", "up-restore", "up-save",
	}
	if got := slices.Sorted(maps.Keys(blocks)); !slices.Equal(got, want) {
		t.Errorf("docs/backup.md has the blocks %q, want %q", got, want)
	}
	for name, text := range blocks {
		if out, err := exec.Command("bash", "-n", "-c", text).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
