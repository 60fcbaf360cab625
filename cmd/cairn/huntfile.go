package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/veltrix/cairn"
)

// huntFileMax bounds a hunt file, its GeoJSON included.
const huntFileMax = 16 << 20

// readHunt reads a hunt from a YAML or JSON file, with its defaults filled in.
// Its errors name the file, the line and the field.
func readHunt(path string) (*cairn.Hunt, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, usageError{err}
	}
	h, err := parseHunt(data, filepath.Dir(path))
	if err != nil {
		return nil, usagef("%s: %w", path, err)
	}
	return h, nil
}

func readSmall(path string) ([]byte, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > huntFileMax {
		return nil, fmt.Errorf("%s: has %d bytes; want at most %d", path, st.Size(), huntFileMax)
	}
	return os.ReadFile(path)
}

// parseHunt parses a hunt; a GeoJSON region that is a file name is read
// relative to dir. YAML goes through JSON, whose decoder is strict: it takes
// no fraction for an integer and no field that it does not know.
func parseHunt(data []byte, dir string) (*cairn.Hunt, error) {
	j, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	var h cairn.Hunt
	if err := json.Unmarshal(j, &h, json.RejectUnknownMembers(true)); err != nil {
		return nil, blame(data, err)
	}
	h = h.WithDefaults()
	var file string
	if g := h.Region.GeoJSON; len(g) > 0 && json.Unmarshal(g, &file) == nil {
		body, err := readSmall(filepath.Join(dir, file))
		if err != nil {
			return nil, &cairn.FieldError{Field: "region.geojson", Msg: err.Error()}
		}
		if !jsontext.Value(body).IsValid() {
			return nil, &cairn.FieldError{Field: "region.geojson", Msg: file + " is not JSON; want GeoJSON (RFC 7946)"}
		}
		h.Region.GeoJSON = body
	}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	if h.Shards > shardsMax {
		return nil, &cairn.FieldError{Field: "shards", Msg: fmt.Sprintf("is %d, but %d shards are provisioned", h.Shards, shardsMax)}
	}
	return &h, checkHunt(h)
}

// blame names the field and the line of what could not be decoded.
func blame(data []byte, err error) error {
	var bad *json.SemanticError
	if !errors.As(err, &bad) {
		return err
	}
	field := strings.ReplaceAll(strings.TrimPrefix(string(bad.JSONPointer), "/"), "/", ".")
	why := bad.Err
	switch {
	case errors.Is(err, json.ErrUnknownName):
		why = errors.New("no such field")
	case why == nil:
		why = fmt.Errorf("is a %v; want what fits %s", bad.JSONKind, strings.TrimPrefix(bad.GoType.String(), "cairn."))
	}
	return fmt.Errorf("line %d: %s: %w", lineOf(data, bad.JSONPointer), field, why)
}

// lineOf returns the line at which a value of a YAML document stands, or where
// the nearest one around it does.
func lineOf(data []byte, p jsontext.Pointer) int {
	file, err := parser.ParseBytes(data, 0)
	for ; err == nil && p != ""; p = p.Parent() {
		path, err := yaml.PathString("$" + strings.ReplaceAll(string(p), "/", "."))
		if err != nil {
			continue
		}
		if node, err := path.FilterFile(file); err == nil && node != nil {
			return node.GetToken().Position.Line
		}
	}
	return 1
}

// demoHunt is what cairn up plays when it knows no hunt: the whole world.
func demoHunt() *cairn.Hunt {
	var world cairn.Cell
	h := cairn.Hunt{
		Name:        "demo",
		Region:      cairn.Region{Geohash: &world},
		TilesPerMap: 24,
		Lifetime:    cairn.Duration(30 * time.Second),
		Puzzles:     map[cairn.PuzzleKind]int{cairn.Tap: 3, cairn.Cipher: 2, cairn.Lights: 1, cairn.Echo: 1, cairn.Odd: 1},
		Reward:      cairn.Reward{Min: 10_000, Max: 500_000, Budget: 1_000_000_000_000},
	}.WithDefaults()
	return &h
}

// hunt returns the hunt that --hunt names, or nil.
func (u *upCmd) hunt() (*cairn.Hunt, error) {
	if u.Hunt == "" {
		return nil, nil
	}
	h, err := readHunt(u.Hunt)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("--hunt: %w", err)
	}
	return h, err
}

// startHunt makes a hunt live, creating it if its name is new. Without one it
// leaves the hunts as they are, and in a system without any starts the demo.
func (g *game) startHunt(ctx context.Context, h *cairn.Hunt) error {
	const who = "cairn up"
	if h == nil {
		// The demo may be a draft: of a first start that was cut short.
		all := g.control.Hunts()
		if len(all) > 0 && !(len(all) == 1 && all[0].Name == demoHunt().Name && all[0].State == cairn.Draft && all[0].By == who) {
			return nil
		}
		h = demoHunt()
	}
	known := g.control.Hunt(h.Name)
	if known == nil {
		if _, err := g.control.Do(ctx, cairn.Change{Who: who, Hunt: h.Name, Create: h}); err != nil {
			return err
		}
	} else if known.State == cairn.Ended {
		return fmt.Errorf("--hunt: %s has ended, and a name is unique for ever: give the hunt another name", h.Name)
	}
	_, err := g.control.Do(ctx, cairn.Change{Who: who, Hunt: h.Name, State: cairn.Live})
	return err
}
