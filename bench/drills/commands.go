//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// block is a fenced block of the document that names a part of a drill:
//
//	```sh drill=ledger-save
//	pg_dump …
//	```
//
// It may be indented, as in a list.
var block = regexp.MustCompile("(?ms)^( *)```sh drill=([a-z-]+)\n(.*?)^ *```$")

// commands reads the blocks of a document, by name.
func commands(doc string) (map[string]string, error) {
	text, err := os.ReadFile(doc)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		if found[m[2]] != "" {
			return nil, fmt.Errorf("%s: there are two blocks %q; want one", doc, m[2])
		}
		found[m[2]] = strings.ReplaceAll("\n"+m[3], "\n"+m[1], "\n")
	}
	return found, nil
}

// do runs a block of the document with some environment besides ours, and
// returns what it printed.
func (d *drills) do(ctx context.Context, name string, env ...string) (string, error) {
	text, ok := d.blocks[name]
	if !ok {
		return "", fmt.Errorf("%s has no block ```sh drill=%s", d.o.doc, name)
	}
	d.tried[name] = true
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir, cmd.Env = d.lab.Dir, append(append(os.Environ(), d.env...), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w\n%s", d.o.doc, name, err, out)
	}
	return string(out), nil
}
