package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// A configFlag is --config: a file whose keys are flags. It holds at the
// lowest rank: the environment beats it, and the command line beats both.
type configFlag string

// BeforeResolve makes kong ask the file for every flag that was not given.
func (c configFlag) BeforeResolve(k *kong.Kong, ctx *kong.Context, trace *kong.Path) error {
	path, _ := ctx.FlagValue(trace.Flag).(configFlag)
	if path == "" {
		return nil
	}
	f, err := readConfig(string(path))
	if err != nil {
		return err
	}
	if err := f.Validate(k.Model); err != nil {
		return err
	}
	ctx.AddResolver(f)
	return nil
}

// A configFile is a file of flags. It implements kong.Resolver.
type configFile struct {
	path   string
	values map[string]configValue
}

type configValue struct {
	value any
	line  int
}

// readConfig reads a YAML mapping of flag names to scalars. JSON is YAML.
func readConfig(path string) (*configFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f := &configFile{path: path, values: map[string]configValue{}}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		var pairs []*ast.MappingValueNode
		switch n := doc.Body.(type) {
		case *ast.MappingNode:
			pairs = n.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{n}
		default:
			return nil, fmt.Errorf("%s:%d: is a %s; want one key a flag, such as listen: 127.0.0.1:8080", path, n.GetToken().Position.Line, strings.ToLower(n.Type().String()))
		}
		for _, p := range pairs {
			if err := f.add(p); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

func (f *configFile) add(p *ast.MappingValueNode) error {
	key, line := p.Key.GetToken().Value, p.Key.GetToken().Position.Line
	scalar, ok := p.Value.(ast.ScalarNode)
	if !ok {
		return fmt.Errorf("%s:%d: %s: is a %s; want a single value", f.path, line, key, strings.ToLower(p.Value.Type().String()))
	}
	if old, dup := f.values[key]; dup {
		return fmt.Errorf("%s:%d: %s: was set on line %d already", f.path, line, key, old.line)
	}
	f.values[key] = configValue{fmt.Sprint(scalar.GetValue()), line}
	return nil
}

// Validate implements kong.Resolver: it reports the keys that are no flag.
func (f *configFile) Validate(app *kong.Application) error {
	flags := map[string]bool{}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, flag := range n.Flags {
			flags[flag.Name] = true
		}
		for _, c := range n.Children {
			walk(c)
		}
	}
	walk(app.Node)
	delete(flags, "help")
	delete(flags, "config")
	var errs []error
	for key, v := range f.values {
		if !flags[key] {
			errs = append(errs, fmt.Errorf("%s:%d: %s: no such flag%s", f.path, v.line, key, didYouMean(key, flags)))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// Resolve implements kong.Resolver: it returns the value of a flag, having
// tried it, so that a bad one is reported with its line.
func (f *configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := f.values[flag.Name]
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			ok = false // the environment beats the file
		}
	}
	if !ok {
		return nil, nil
	}
	try := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Parse(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: v.value}), try); err != nil {
		return nil, fmt.Errorf("%s:%d: %s: %w", f.path, v.line, flag.Name, err)
	}
	if flag.Enum != "" && !slices.Contains(strings.Split(flag.Enum, ","), fmt.Sprint(v.value)) {
		return nil, fmt.Errorf("%s:%d: %s: is %q; want one of %s", f.path, v.line, flag.Name, v.value, flag.Enum)
	}
	return v.value, nil
}

// didYouMean suggests the known name that is nearest to a mistyped one.
func didYouMean(key string, known map[string]bool) string {
	norm := func(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }
	var names []string
	for name := range known {
		if norm(name) == norm(key) || strings.HasPrefix(norm(name), norm(key)) || strings.HasPrefix(norm(key), norm(name)) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "; see cairn --help and cairn up --help for their names"
	}
	slices.Sort(names)
	return "; did you mean " + strings.Join(names, " or ") + "?"
}
