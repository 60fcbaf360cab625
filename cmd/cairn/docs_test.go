package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"mvdan.cc/sh/v3/syntax"
)

// These tests hold what the documents tell people to type, and where they send
// them, against what there is.

// documents returns what people read, by path from the repository's root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md", "web/*.md", "web/client/*.md"} {
		paths, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			out[strings.TrimPrefix(filepath.ToSlash(path), "../../")] = string(b)
		}
	}
	if len(out) < 30 {
		t.Fatalf("found %d documents", len(out))
	}
	return out
}

// scripts returns the shell of a document: its fenced blocks of sh, and those of
// its indented lines that begin with one of the words.
func scripts(text string, words ...string) []string {
	var out []string
	var fence *strings.Builder
	s := bufio.NewScanner(strings.NewReader(text))
	for s.Scan() {
		line := s.Text()
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			if fence != nil {
				out, fence = append(out, fence.String()), nil
			} else if info := strings.Fields(strings.TrimPrefix(trimmed, "```")); len(info) > 0 && info[0] == "sh" {
				fence = new(strings.Builder)
			}
		case fence != nil:
			fence.WriteString(line + "\n")
		case strings.HasPrefix(line, "    "):
			command := strings.TrimPrefix(trimmed, "$ ")
			if first, _, _ := strings.Cut(command, " "); slices.Contains(words, first) {
				out = append(out, command)
			}
		}
	}
	return out
}

// inline returns what a document has between backticks.
func inline(text string) []string {
	var out []string
	for _, m := range spans.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		out = append(out, strings.Join(strings.Fields(m[1]), " "))
	}
	return out
}

// commands returns the arguments of each cairn that a script runs. What the shell
// would fill in is one word.
func commands(script string) ([][]string, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil {
		return nil, err
	}
	var out [][]string
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok {
			return true
		}
		var words []string
		for _, w := range call.Args {
			words = append(words, literal(w))
		}
		switch {
		case len(words) > 3 && slices.Equal(words[:3], []string{"go", "run", "./cmd/cairn"}):
			words = words[3:]
		case len(words) > 1 && (words[0] == "cairn" || words[0] == "bin/cairn"):
			words = words[1:]
		default:
			return true
		}
		out = append(out, filled(words))
		return true
	})
	return out, nil
}

// filled returns words with something in place of what stands for a value; other
// arguments that are left to the reader, as in "cairn gateway … --traces URL", are
// left out.
func filled(words []string) []string {
	var out []string
	for i, w := range words {
		switch {
		case w == "N":
			out = append(out, "1")
		case w != "…":
			out = append(out, w)
		case i > 0 && strings.HasPrefix(words[i-1], "--"):
			out = append(out, "x")
		}
	}
	return out
}

// literal returns a word without its quotes, and x for what is expanded.
func literal(w *syntax.Word) string {
	var b strings.Builder
	var add func(parts []syntax.WordPart)
	add = func(parts []syntax.WordPart) {
		for _, p := range parts {
			switch p := p.(type) {
			case *syntax.Lit:
				b.WriteString(p.Value)
			case *syntax.SglQuoted:
				b.WriteString(p.Value)
			case *syntax.DblQuoted:
				add(p.Parts)
			default:
				b.WriteString("x")
			}
		}
	}
	add(w.Parts)
	return b.String()
}

// misread returns why the command line's parser does not take arguments.
func misread(args []string) error {
	if slices.Contains(args, "--help") {
		return nil
	}
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err == nil {
		_, err = parser.Parse(args)
	}
	return err
}

// TestDocumentedCommands parses every cairn of the documents, with the flags
// that there are. What a document gives a command through its environment is
// given here.
func TestDocumentedCommands(t *testing.T) {
	t.Setenv("CAIRN_LOG", "redis://127.0.0.1:6379")
	t.Setenv("CAIRN_LEDGER", "postgres://127.0.0.1/cairn")
	t.Setenv("CAIRN_KEYS", "keys.json")
	found := 0
	for path, text := range documents(t) {
		said := scripts(text, "cairn")
		for _, span := range inline(text) {
			if strings.HasPrefix(span, "cairn ") && strings.Contains(span, " --") {
				said = append(said, span)
			}
		}
		for _, script := range said {
			if strings.ContainsAny(script, "[|") && !strings.Contains(script, "\n") { // a synopsis
				continue
			}
			all, err := commands(script)
			if err != nil {
				t.Errorf("%s: not a shell's: %v\n%s", path, err, script)
			}
			for _, args := range all {
				found++
				if err := misread(args); err != nil {
					t.Errorf("%s: cairn %s: %v", path, strings.Join(args, " "), err)
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("found %d commands in the documents", found)
	}
	for _, script := range []string{"cairn up --made-up", "export X=1; echo | cairn hunt create", "cairn gatway", "X=$(cairn verify --data=a --rate 3)"} {
		all, err := commands(script)
		if err != nil || len(all) != 1 || misread(all[0]) == nil {
			t.Errorf("%q: commands %q, %v: nothing is wrong with it", script, all, err)
		}
	}
}

var (
	spans    = regexp.MustCompile("`([^`]+)`")
	makes    = regexp.MustCompile(`(?m)(?:^|&& |; )\s*make ([a-z][a-z0-9-]*)`)
	targets  = regexp.MustCompile(`(?m)^([a-z0-9-]+):`)
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	fences   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
)

// TestDocumentedTargets: what a document has one make is a target.
func TestDocumentedTargets(t *testing.T) {
	b, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range targets.FindAllStringSubmatch(string(b), -1) {
		known[m[1]] = true
	}
	found := 0
	for path, text := range documents(t) {
		said := strings.Join(append(scripts(text, "make"), inline(text)...), "\n")
		for _, m := range makes.FindAllStringSubmatch(said, -1) {
			if found++; !known[m[1]] {
				t.Errorf("%s: make %s: no such target", path, m[1])
			}
		}
	}
	if found < 40 {
		t.Errorf("found %d targets in the documents", found)
	}
}

// TestDocumentedLinks: a link leads to a file of the repository and, if it names
// one, to a heading in it.
func TestDocumentedLinks(t *testing.T) {
	docs := documents(t)
	found := 0
	for path, text := range docs {
		for _, m := range links.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			found++
			if err := leads(docs, path, m[1]); err != nil {
				t.Errorf("%s: (%s): %v", path, m[1], err)
			}
		}
	}
	if found < 150 {
		t.Errorf("found %d links in the documents", found)
	}
	if leads(docs, "docs/api.md", "../README.md#made-up") == nil || leads(docs, "docs/api.md", "made-up.md") == nil {
		t.Error("a link that leads nowhere is not noticed")
	}
}

// leads returns why a link of a document leads nowhere.
func leads(docs map[string]string, from, link string) error {
	file, anchor, named := strings.Cut(link, "#")
	to := filepath.ToSlash(filepath.Join(filepath.Dir(from), file))
	if file == "" {
		to = from
	}
	if _, err := os.Stat(filepath.Join("../..", to)); err != nil {
		return err
	}
	text, read := docs[to]
	if !named || !read {
		return nil
	}
	var have []string
	for _, h := range headings.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		have = append(have, slug(h[1]))
	}
	if !slices.Contains(have, anchor) {
		return fmt.Errorf("%s has no heading #%s; it has %s", to, anchor, strings.Join(have, ", "))
	}
	return nil
}

// slug returns what a heading is called in a link, as forges have it.
func slug(heading string) string {
	heading = links.ReplaceAllString(heading, "]")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}
