package cairn_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/veltrix/cairn"

// below says what each room may import of ours (docs/ARCHITECTURE.md, "Rooms").
// Packages of tests (_test) may import more: doors hold for what is shipped.
var below = map[string][]string{
	".":                                     {},
	"internal/eventlog":                     {},
	"internal/eventlog/filelog":             {"internal/eventlog"},
	"internal/eventlog/logtest":             {"internal/eventlog"},
	"internal/eventlog/redislog":            {"internal/eventlog"},
	"internal/eventlog/redislog/redissim":   {},
	"internal/eventlog/redislog/redistest":  {"internal/lab"},
	"internal/wire":                         {".", "internal/eventlog"},
	"internal/wire/livepb":                  {}, // what is generated knows only itself
	"internal/puzzle":                       {"."},
	"internal/trail":                        {"."},
	"internal/control":                      {".", "internal/eventlog", "internal/wire"},
	"internal/mapgen":                       {".", "internal/eventlog", "internal/wire"},
	"internal/claim":                        {".", "internal/eventlog", "internal/wire", "internal/puzzle", "internal/trail"},
	"internal/broadcast":                    {".", "internal/eventlog", "internal/wire", "internal/wire/livepb"},
	"internal/leaderboard":                  {".", "internal/eventlog", "internal/wire"},
	"internal/ledger":                       {".", "internal/eventlog", "internal/wire"},
	"internal/ledger/pgtest":                {"internal/lab"},
	"internal/fleet":                        {".", "internal/eventlog", "internal/wire", "internal/claim", "internal/trail", "internal/fleet/fleetpb", "internal/fleet/fleetpb/fleetpbconnect"},
	"internal/fleet/fleetpb":                {},
	"internal/fleet/fleetpb/fleetpbconnect": {"internal/fleet/fleetpb"},
	"internal/fleet/redisreg":               {"internal/fleet"},
	"internal/audit":                        {".", "internal/eventlog", "internal/wire", "internal/ledger"},
	"internal/capacity":                     {".", "internal/capacity/svg"}, // and nothing that lives
	"internal/capacity/hpa":                 {},                             // arithmetic
	"internal/capacity/sim":                 {".", "internal/capacity", "internal/capacity/hpa", "internal/capacity/svg"},
	"internal/capacity/svg":                 {},
	"internal/lab":                          {},
	"internal/load":                         {".", "internal/wire", "internal/puzzle", "internal/load/crowd"},
	"internal/load/crowd":                   {".", "internal/wire/livepb"},
	"web":                                   {},
	"internal/server": {
		".", "internal/eventlog", "internal/wire", "internal/wire/livepb", "internal/puzzle", "internal/control", "internal/mapgen",
		"internal/claim", "internal/broadcast", "internal/leaderboard", "internal/ledger", "internal/trail", "web",
	},
}

// TestDoors holds the one-way doors between the rooms. cmd/cairn, the wiring,
// may import all.
func TestDoors(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if name == "node_modules" || name == "testdata" || path == "tools" || path == "bench" || path == "deploy" || strings.HasPrefix(name, ".") && path != "." {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		room := filepath.ToSlash(filepath.Dir(path))
		if strings.HasPrefix(room, "cmd/") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		// A file that go generate runs is a tool, not a part of its room.
		if f.Name.Name == "main" {
			return nil
		}
		may, known := below[room]
		if !known {
			t.Errorf("%s: room %q is not in the table of doors", path, room)
		}
		for _, imp := range f.Imports {
			p := strings.Trim(imp.Path.Value, `"`)
			if p != module && !strings.HasPrefix(p, module+"/") {
				continue
			}
			to := "."
			if p != module {
				to = strings.TrimPrefix(p, module+"/")
			}
			if !slices.Contains(may, to) {
				t.Errorf("%s imports %s: there is no door from %s", path, to, room)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
