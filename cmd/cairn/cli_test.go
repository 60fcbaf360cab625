package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cairnCmd runs the command in this process.
func cairnCmd(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a command that gets as far as to serve drains at once
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantUsage runs a command that is used wrongly: it exits with 2, and names what
// is wrong and what would be right.
func wantUsage(t *testing.T, args []string, names ...string) {
	t.Helper()
	code, _, stderr := cairnCmd(t, args...)
	if code != exitUsage {
		t.Errorf("cairn %v: exit code %d, want %d; it said: %s", args, code, exitUsage, stderr)
	}
	for _, w := range names {
		if !strings.Contains(stderr, w) {
			t.Errorf("cairn %v: said %q, want it to name %q", args, stderr, w)
		}
	}
}

// TestUsage gives every flag wrong values: each is exit code 2 and a message
// that names the flag and what would be right.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{}, []string{"expected one of"}},
		{[]string{"fly"}, []string{"fly"}},
		{[]string{"up", "--fly"}, []string{"--fly"}},
		{[]string{"up", "extra"}, []string{"extra"}},
		{[]string{"up", "--bots", "many"}, []string{"--bots", "many"}},
		{[]string{"up", "--bots=-1"}, []string{"--bots", "-1", "0 to 10000"}},
		{[]string{"up", "--bots", "3", "--no-guests"}, []string{"--bots", "--no-guests"}},
		{[]string{"up", "--listen", "8080"}, []string{"--listen", "8080", "HOST:PORT"}},
		{[]string{"up", "--listen", "127.0.0.1:http"}, []string{"--listen", "http", "65535"}},
		{[]string{"up", "--listen", "127.0.0.1:70000"}, []string{"--listen", "70000", "65535"}},
		{[]string{"up", "--admin", "127.0.0.1"}, []string{"--admin", "HOST:PORT"}},
		{[]string{"up", "--admin", "0.0.0.0:8081"}, []string{"--admin", "--admin-token"}},
		{[]string{"up", "--claim-rate", "0"}, []string{"--claim-rate", "above 0"}},
		{[]string{"up", "--claim-burst", "0"}, []string{"--claim-burst", "1 to"}},
		{[]string{"up", "--retention", "1m"}, []string{"--retention", "1h15m"}},
		{[]string{"up", "--retention", "1h14m59s"}, []string{"--retention", "1h15m"}},
		{[]string{"up", "--retention", "soon"}, []string{"--retention", "soon"}},
		{[]string{"up", "--origin", "play.example"}, []string{"--origin", "play.example", "https://"}},
		{[]string{"up", "--proxy", "10.0.0.0/99"}, []string{"--proxy", "10.0.0.0/99", "10.0.0.0/8"}},
		{[]string{"up", "--hunt", "/no/such/file"}, []string{"--hunt", "/no/such/file"}},
		{[]string{"up", "--log-level", "loud"}, []string{"--log-level", "debug"}},
		{[]string{"up", "--log-format", "xml"}, []string{"--log-format", "json"}},
		{[]string{"up", "--config", "/no/such/file"}, []string{"--config", "/no/such/file"}},
		{[]string{"hunt"}, []string{"create", "list"}},
		{[]string{"hunt", "create"}, []string{"file"}},
		{[]string{"hunt", "pause"}, []string{"hunt"}},
		{[]string{"hunt", "list", "--admin", "here"}, []string{"--admin", "here", "http://"}},
		{[]string{"hunt", "set", "oslo"}, []string{"--shards", "--tiles-per-map"}},
		{[]string{"up", "--connect-rate", "0"}, []string{"--connect-rate", "0"}},
		{[]string{"up", "--connect-burst=-1"}, []string{"--connect-burst", "-1"}},
		{[]string{"up", "--connections-max=-5"}, []string{"--connections-max", "-5", "open files"}},
		{[]string{"load", "--target", "here"}, []string{"--target", "here", "http://"}},
		{[]string{"load", "--rate=-1"}, []string{"--rate", "-1"}},
		{[]string{"load", "--players", "0.5"}, []string{"--players", "0.5"}},
		{[]string{"load", "--players=-3"}, []string{"--players", "-3"}},
		{[]string{"load", "--connections=-1"}, []string{"--connections", "-1"}},
		{[]string{"load", "--connect-rate=-1"}, []string{"--connect-rate", "-1"}},
		{[]string{"load", "--codec", "xml"}, []string{"--codec", "xml", "json or proto"}},
		{[]string{"load", "--regions", "u4,a"}, []string{"--regions", "\"a\""}},
		{[]string{"load", "--stalled", "101"}, []string{"--stalled", "101", "0 to 100"}},
		{[]string{"load", "--for", "10ms"}, []string{"--for", "1s"}},
		{[]string{"load", "--crowd", "900"}, []string{"--crowd", "900"}},
		{[]string{"verify", "--data", "/no/such/folder"}, []string{"--data", "/no/such/folder"}},
		{[]string{"version", "--jason"}, []string{"--jason"}},
	} {
		wantUsage(t, c.args, c.want...)
	}
}

// TestConnectionsMax holds the bound on connections against the limit of files.
func TestConnectionsMax(t *testing.T) {
	f := edgeFlags{ClaimRate: 1, ClaimBurst: 1, ConnectRate: 1, ConnectBurst: 1}
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	limit, ok := fileLimit()
	if got := f.admission().ConnectionsMax; ok && (got < limit/2 || got >= limit) {
		t.Errorf("%d connections by default, of %d files", got, limit)
	}
	if f.ConnectionsMax = limit + 1; ok && f.check() == nil {
		t.Errorf("%d connections are allowed, and %d files", f.ConnectionsMax, limit)
	}
	for limit, want := range map[int]int{100: 50, 1024: 512, 20_000: 19_288, 1_048_576: 1_037_579} {
		if got := connectionsOf(limit); got != want {
			t.Errorf("%d files: %d connections, want %d", limit, got, want)
		}
	}
}

// TestEnvironment has a flag come from the environment, and the command line
// beat it.
func TestEnvironment(t *testing.T) {
	t.Setenv("CAIRN_BOTS", "-7")
	if _, _, stderr := cairnCmd(t, "up"); !strings.Contains(stderr, "-7") {
		t.Errorf("CAIRN_BOTS=-7: said %q, want it to name -7", stderr)
	}
	if _, _, stderr := cairnCmd(t, "up", "--bots=-8"); !strings.Contains(stderr, "-8") {
		t.Errorf("CAIRN_BOTS=-7 and --bots -8: said %q, want it to name -8", stderr)
	}
	t.Setenv("CAIRN_BOTS", "lots")
	if code, _, stderr := cairnCmd(t, "up"); code != exitUsage || !strings.Contains(stderr, "CAIRN_BOTS") && !strings.Contains(stderr, "--bots") {
		t.Errorf("CAIRN_BOTS=lots: exit code %d, said %q; want %d and its name", code, stderr, exitUsage)
	}
}

// TestConfigFile holds what a config file may say, and that what is wrong in
// it is named with its line.
func TestConfigFile(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"listen: 127.0.0.1:0\nbotz: 3\n", []string{":2", "botz", "no such flag"}},
		{"claim_rate: 3\n", []string{":1", "claim_rate", "claim-rate"}},
		{"# a comment\n\nbots: lots\n", []string{":3", "bots", "lots"}},
		{"bots: [1, 2]\n", []string{":1", "bots", "single value"}},
		{"bots: 1\nbots: 2\n", []string{"bots"}},
		{"log-level: loud\n", []string{":1", "log-level", "debug"}},
		{"retention: 5\n", []string{":1", "retention"}},
		{"just text\n", []string{":1", "listen"}},
		{"bots: -9\n", []string{"--bots", "-9"}},
		{"a: [\n", []string{"cairn.yaml"}},
		{`{"bots": -4}`, []string{"--bots", "-4"}},
	} {
		path := write(t, "cairn.yaml", c.text)
		code, _, stderr := cairnCmd(t, "up", "--config", path)
		if code != exitUsage {
			t.Errorf("%q: exit code %d, want %d; it said: %s", c.text, code, exitUsage, stderr)
		}
		for _, w := range c.want {
			if !strings.Contains(stderr, w) {
				t.Errorf("%q: said %q, want it to name %q", c.text, stderr, w)
			}
		}
	}
	// The environment beats the file, and the command line beats both.
	path := write(t, "cairn.yaml", "bots: -1\n")
	t.Setenv("CAIRN_BOTS", "-2")
	if _, _, stderr := cairnCmd(t, "up", "--config", path); !strings.Contains(stderr, "-2") {
		t.Errorf("file -1, environment -2: said %q, want -2", stderr)
	}
	if _, _, stderr := cairnCmd(t, "up", "--config", path, "--bots=-3"); !strings.Contains(stderr, "-3") {
		t.Errorf("file -1, environment -2, flag -3: said %q, want -3", stderr)
	}
}

const goodHunt = `name: oslo
region: {geohash: u4xs}
tiles_per_map: 50
`

// TestHuntFile gives every field of a hunt wrong: the message names file and
// field, and for what YAML can tell, the line.
func TestHuntFile(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{"name"}},
		{"name: Oslo\nregion: {geohash: u4xs}\n", []string{"name", "a-z"}},
		{"name: [oslo]\nregion: {geohash: u4xs}\n", []string{"1:"}},
		{"name: oslo\n", []string{"region", "exactly one"}},
		{"name: oslo\nregion: u4xs\n", []string{"2:"}},
		{"name: oslo\nregion: {geohash: u4xa}\n", []string{"geohash", "'a'"}},
		{"name: oslo\nregion: {geohash: u4xs, bbox: [1, 2, 3, 4]}\n", []string{"region", "exactly one"}},
		{"name: oslo\nregion: {bbox: [1, 2, 3]}\n", []string{"region.bbox", "4"}},
		{"name: oslo\nregion: {bbox: [1, 2, 3, 400]}\n", []string{"region.bbox", "-90 to 90"}},
		{"name: oslo\nregion: {bbox: west}\n", []string{"2:"}},
		{"name: oslo\nregion: {circle: 3}\n", []string{"circle", "2:"}},
		{"name: oslo\nregion: {geojson: nowhere.json}\n", []string{"region.geojson", "nowhere.json"}},
		{"name: oslo\nregion: {geojson: {type: Point, coordinates: [1, 2]}}\n", []string{"region.geojson", "Polygon"}},
		{"name: oslo\nregion: {bbox: [-30, 40, -29, 41]}\n", []string{"region"}}, // all sea
		{goodHunt + "mask: sea\n", []string{"mask", "sea", "land or none"}},
		{goodHunt + "tiles_per_mop: 3\n", []string{"tiles_per_mop", "4:"}},
		{"name: oslo\nregion: {geohash: u4xs}\ntiles_per_map: 70000\n", []string{"tiles_per_map", "65536"}},
		{"name: oslo\nregion: {geohash: u4xs}\ntiles_per_map: many\n", []string{"3:"}},
		{"name: oslo\nregion: {geohash: u4xs}\ntiles_per_map: -1\n", []string{"tiles_per_map", "-1"}},
		{goodHunt + "tick: 1\n", []string{"tick"}},
		{goodHunt + "tick: 1ms\n", []string{"tick", "1ms", "100ms"}},
		{goodHunt + "lifetime: forever\n", []string{"forever"}},
		{goodHunt + "lifetime: 2h\n", []string{"lifetime", "2h"}},
		{goodHunt + "shards: 2000\n", []string{"shards", "1024"}},
		{goodHunt + "shards: 65\n", []string{"shards", "64"}},
		{goodHunt + "puzzles: {chess: 1}\n", []string{"chess"}},
		{goodHunt + "puzzles: {tap: -1}\n", []string{"puzzles.tap", "-1"}},
		{goodHunt + "puzzles: {tap: 0}\n", []string{"puzzles", "above 0"}},
		{goodHunt + "reward: {min: 5, max: 3}\n", []string{"reward.min", "reward.max"}},
		{goodHunt + "reward: {min: -5}\n", []string{"reward.min", "-5"}},
		{goodHunt + "reward: {max: 1.5}\n", []string{"4:"}},
		{goodHunt + "reward: {budget: -1}\n", []string{"reward.budget", "-1"}},
		{"name: oslo\nname: oslo\nregion: {geohash: u4xs}\n", []string{"name"}},
		{"name: \"\xff\"\nregion: {geohash: u4xs}\n", []string{"name"}},
	} {
		path := write(t, "hunt.yaml", c.text)
		for _, args := range [][]string{{"up", "--hunt", path}, {"hunt", "create", path}} {
			code, _, stderr := cairnCmd(t, args...)
			if code != exitUsage || !strings.Contains(stderr, "hunt.yaml") {
				t.Errorf("%v with %q: exit code %d, want %d and the file's name; it said: %s", args[0], c.text, code, exitUsage, stderr)
			}
			for _, w := range c.want {
				if !strings.Contains(stderr, w) {
					t.Errorf("%v with %q: said %q, want it to name %q", args[0], c.text, stderr, w)
				}
			}
		}
	}
}

func TestHuntFileRegions(t *testing.T) {
	dir := t.TempDir()
	ring := `{"type":"Polygon","coordinates":[[[10,59.5],[11,59.5],[11,60.2],[10,60.2],[10,59.5]]]}`
	if err := os.WriteFile(filepath.Join(dir, "oslo.json"), []byte(ring), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, region := range []string{
		"{geohash: u4xs}", "{geohash: ''}", "{bbox: [10, 59.5, 11, 60.2]}", "{bbox: [170, -40, -170, -10]}", "{geojson: oslo.json}", "{geojson: " + ring + "}",
	} {
		h, err := parseHunt([]byte("name: oslo\nregion: "+region+"\n"), dir)
		if err != nil {
			t.Errorf("region %s: %v", region, err)
			continue
		}
		if h.TilesPerMap != 1000 || h.Shards != 24 {
			t.Errorf("region %s: got %d tiles a map and %d shards, want the defaults 1000 and 24", region, h.TilesPerMap, h.Shards)
		}
	}
}

func FuzzParseHunt(f *testing.F) {
	f.Add([]byte(goodHunt))
	f.Add([]byte("name: oslo\nregion: {geojson: {type: Polygon, coordinates: [[[10,59],[11,59],[11,60],[10,59]]]}}\n"))
	f.Add([]byte(`{"name":"x","region":{"bbox":[1,2,3,4]},"puzzles":{"tap":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHunt(data, t.TempDir())
		if err == nil && h.Validate() != nil {
			t.Errorf("took %q, which is not valid: %v", data, h.Validate())
		}
	})
}

func TestVersion(t *testing.T) {
	code, out, _ := cairnCmd(t, "version")
	if code != exitDone || !strings.HasPrefix(out, "cairn "+version) {
		t.Errorf("got %d, %q; want %d and cairn %s", code, out, exitDone, version)
	}
	if code, out, _ = cairnCmd(t, "version", "--json"); code != exitDone || !strings.Contains(out, `"version":"`+version+`"`) {
		t.Errorf("--json: got %d, %q", code, out)
	}
}
