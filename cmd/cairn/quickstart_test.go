package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// quickstart are the blocks of docs/quickstart.md that are typed here.
var quickstart = regexp.MustCompile("(?ms)^```sh quickstart\n(.*?)^```")

// TestQuickStart types the quick start's blocks into one shell, beside the real
// command on free ports, and looks at what they print.
func TestQuickStart(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v; scripts/setup.sh shell installs it", err)
		}
	}
	doc, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range quickstart.FindAllStringSubmatch(string(doc), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) < 7 {
		t.Fatalf("the document has %d blocks to type", len(blocks))
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(dir, "cairn")); err != nil {
		t.Fatal(err)
	}
	shell := func(script string, env ...string) string {
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH")), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		return string(out)
	}
	shell(blocks[0]) // writes the hunt
	data := filepath.Join(dir, "treasure")
	p := up(t, data, "--hunt", filepath.Join(dir, "oslo.yaml"), "--bots", "3")
	here := strings.NewReplacer("http://127.0.0.1:8080", p.public, "http://127.0.0.1:8081", p.admin)
	out := shell(here.Replace(strings.Join(blocks[1:], "")), "CAIRN_ADMIN="+p.admin)
	for _, want := range []string{
		`"outcome":"won","tile":`, `{"outcome":"won","offset":"`, `"rank":1`, `"newest":"settled"`, "data: {", "oslo is paused", "500 tiles a map",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in what the quick start prints:\n%s", want, out)
		}
	}
	p.interrupt()
	if code, out := verify(t, data); code != exitDone {
		t.Errorf("verify: exit code %d:\n%s", code, out)
	}
}
