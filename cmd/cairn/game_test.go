package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to damage a ledger with
)

// buildDir is where binary builds; empty until it does.
var buildDir string

// binary is the real command, built once.
var binary = sync.OnceValues(func() (path string, err error) {
	if buildDir, err = os.MkdirTemp("", "cairn-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(buildDir, "cairn")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

// A process is a running cairn up.
type process struct {
	t             *testing.T
	cmd           *exec.Cmd
	public, admin string
	stderr        bytes.Buffer
	drained       chan struct{} // closed when its output ends
}

var addressLine = regexp.MustCompile(`(play|operate)\s+(http://[^/\s]+)`)

// up starts cairn up on a data folder and waits until it is ready.
func up(t *testing.T, data string, args ...string) *process {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, drained: make(chan struct{})}
	p.cmd = exec.Command(bin, append([]string{"up", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--bots", "0"}, args...)...)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	for lines := bufio.NewScanner(out); p.admin == "" && lines.Scan(); {
		if m := addressLine.FindStringSubmatch(lines.Text()); m != nil && m[1] == "play" {
			p.public = m[2]
		} else if m != nil {
			p.admin = m[2]
		}
	}
	if p.admin == "" {
		p.cmd.Wait()
		t.Fatalf("cairn up did not print where it is: %s", p.stderr.String())
	}
	go func() {
		io.Copy(io.Discard, out)
		close(p.drained)
	}()
	p.until("ready", func() bool {
		resp, err := http.Get(p.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

func (p *process) until(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("still not %s after 30s", what)
		}
	}
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		<-p.drained
		p.cmd.Wait()
	}
}

// interrupt is Ctrl-C: the process must drain and exit with 0.
func (p *process) interrupt() {
	p.t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	<-p.drained
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("after Ctrl-C: %v; it said: %s", err, p.stderr.String())
	}
}

// An answer is what the API says, all of it.
type answer struct {
	Status     int
	Player     string
	Token      string
	Outcome    string
	Offset     string
	Code       string
	Winner     string
	WinnerName string `json:"winner_name"`
	Tick       int64
	Closes     time.Time
	Rewards    []struct{ Offset string }
	Tiles      []struct {
		Index  int
		Puzzle string
	}
}

func (p *process) call(method, path, token, body string) answer {
	p.t.Helper()
	req, err := http.NewRequest(method, p.public+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Errorf("%s %s: %v", method, path, err)
		return answer{}
	}
	defer resp.Body.Close()
	a := answer{Status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		p.t.Errorf("%s %s: HTTP %d: %v", method, path, resp.StatusCode, err)
	}
	return a
}

func (p *process) signIn(name string) (player, token string) {
	p.t.Helper()
	a := p.call("POST", "/v1/players", "", fmt.Sprintf(`{"name":%q}`, name))
	if a.Status != http.StatusCreated || a.Token == "" {
		p.t.Fatalf("sign-in: got %+v, want 201 and a token", a)
	}
	return a.Player, a.Token
}

const raceHunt = `name: race
region: {geohash: u4}
tiles_per_map: 20
lifetime: 60s
reward: {min: 100, max: 5000, budget: 50000000}
`

// TestRaceKillAndRestart is the promise that the project makes, through the
// front door: 200 players race for one tile; one hears 200 and the others 409
// naming the same winner; kill -9 and a restart change nothing of it; and
// cairn verify finds the data whole, and changes none of it.
func TestRaceKillAndRestart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	hunt := write(t, "race.yaml", raceHunt)
	p := up(t, data, "--hunt", hunt)

	const players = 200
	ids, tokens := make([]string, players), make([]string, players)
	for i := range players {
		ids[i], tokens[i] = p.signIn(fmt.Sprint("player ", i))
	}
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	body := fmt.Sprintf(`{"map":%d,"tile":%d,"claim_id":"first"}`, m.Tick, m.Tiles[0].Index)
	answers := make([]answer, players)
	var wg sync.WaitGroup
	for i := range players {
		wg.Go(func() { answers[i] = p.call("POST", "/v1/hunts/race/claims", tokens[i], body) })
	}
	wg.Wait()
	winner := -1
	for i, a := range answers {
		if a.Status == http.StatusOK && a.Outcome == "won" {
			if winner >= 0 {
				t.Fatalf("%s and %s both won", ids[winner], ids[i])
			}
			winner = i
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	won := answers[winner]
	for i, a := range answers {
		if i != winner && (a.Status != http.StatusConflict || a.Code != "gone" || a.Winner != ids[winner] || a.WinnerName != fmt.Sprint("player ", winner)) {
			t.Errorf("player %d: got %+v, want 409 gone by %s", i, a, ids[winner])
		}
	}
	check := func(when string, p *process) {
		t.Helper()
		retry := fmt.Sprintf(`{"map":%d,"tile":%d,"claim_id":%q}`, m.Tick, m.Tiles[0].Index, when)
		if a := p.call("POST", "/v1/hunts/race/claims", tokens[winner], retry); a.Status != http.StatusOK || a.Offset != won.Offset {
			t.Errorf("%s: the winner's retry: got %+v, want 200 and offset %s", when, a, won.Offset)
		}
		loser := (winner + 1) % players
		if a := p.call("POST", "/v1/hunts/race/claims", tokens[loser], retry); a.Status != http.StatusConflict || a.Winner != ids[winner] {
			t.Errorf("%s: a loser's retry: got %+v, want 409 gone by %s", when, a, ids[winner])
		}
		path := fmt.Sprintf("/v1/hunts/race/maps/%d/tiles/%d/claim", m.Tick, m.Tiles[0].Index)
		if a := p.call("GET", path, tokens[winner], ""); a.Outcome != "won" || a.Offset != won.Offset {
			t.Errorf("%s: how the claim ended: got %+v, want won and offset %s", when, a, won.Offset)
		}
		p.until("paid", func() bool {
			r := p.call("GET", "/v1/players/me/rewards", tokens[winner], "").Rewards
			return len(r) == 1 && r[0].Offset == won.Offset
		})
	}
	check("at once", p)
	p.kill()
	p = up(t, data, "--hunt", hunt)
	check("after kill -9", p)
	p.interrupt()

	before := fingerprint(t, data)
	code, out := verify(t, data)
	if code != exitDone {
		t.Errorf("verify: exit code %d, want %d:\n%s", code, exitDone, out)
	}
	if after := fingerprint(t, data); after != before {
		t.Errorf("verify changed the data folder:\n%s\nbefore:\n%s", after, before)
	}
}

// verify runs the real cairn verify.
func verify(t *testing.T, data string) (code int, out string) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "verify", "--data", data)
	b, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(b)
}

// fingerprint lists the files of a folder with digests of what they hold.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %d %x\n", path, len(data), sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestVerifyFindsDamage damages a data folder that kill -9 left, in each way
// that a disk, a restore or a hand can, and wants to be told where.
func TestVerifyFindsDamage(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := up(t, data, "--hunt", write(t, "race.yaml", raceHunt))
	_, token := p.signIn("ana")
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	var offset string
	for _, tile := range m.Tiles {
		a := p.call("POST", "/v1/hunts/race/claims", token, fmt.Sprintf(`{"map":%d,"tile":%d}`, m.Tick, tile.Index))
		if offset = a.Offset; a.Status != http.StatusOK {
			t.Fatalf("claim: got %+v, want 200", a)
		}
	}
	p.until("paid", func() bool {
		return len(p.call("GET", "/v1/players/me/rewards?limit=100", token, "").Rewards) == len(m.Tiles)
	})
	p.kill()
	shard, rest, _ := strings.Cut(offset, "/")
	record, _, _ := strings.Cut(rest, "/")

	statement := func(query string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			db, err := sql.Open("sqlite", filepath.Join(dir, ledgerFile))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec(query); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := fmt.Sprintf(" WHERE shard = %s AND epoch || '-' || seq = '%s'", shard, record)
	file := func(pattern string, damage func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			paths, err := filepath.Glob(filepath.Join(dir, logDir, pattern))
			if err != nil || len(paths) == 0 {
				t.Fatalf("no %s in %s", pattern, dir)
			}
			path := paths[len(paths)-1]
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		damage func(*testing.T, string)
		want   []string
	}{
		{"none", func(*testing.T, string) {}, nil},
		{"a ledger row altered", statement("UPDATE entries SET reward = reward + 1" + last), []string{offset}},
		{"a ledger row dropped", statement("DELETE FROM entries" + last), []string{offset}},
		{"a tail cut off", file("*.log", func(b []byte) []byte { return b[:len(b)/2] }), []string{".log"}},
		{"a byte flipped in the log", file("*.log", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), []string{".log"}},
		{"the newest log file emptied", file("*.log", func([]byte) []byte { return nil }), []string{".log"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(data)); err != nil {
				t.Fatal(err)
			}
			c.damage(t, dir)
			code, out := verify(t, dir)
			if want := min(len(c.want), exitFailed); code != want {
				t.Errorf("exit code %d, want %d:\n%s", code, want, out)
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("said:\n%s\nwant it to name %q", out, w)
				}
			}
		})
	}
}

// TestSecondProcess has a second cairn up, and a verify, on a folder in use.
func TestSecondProcess(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	up(t, data)
	code, _, stderr := cairnCmd(t, "up", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	if code != exitFailed || !strings.Contains(stderr, data) || !strings.Contains(stderr, "in use") {
		t.Errorf("a second up: exit code %d, said %q; want %d, and that %s is in use", code, stderr, exitFailed, data)
	}
}

// TestPortInUse has cairn up find its port taken.
func TestPortInUse(t *testing.T) {
	p := up(t, filepath.Join(t.TempDir(), "data"))
	addr := strings.TrimPrefix(p.public, "http://")
	code, _, stderr := cairnCmd(t, "up", "--data", t.TempDir(), "--listen", addr, "--admin", "127.0.0.1:0")
	if code != exitFailed || !strings.Contains(stderr, "--listen") || !strings.Contains(stderr, addr) {
		t.Errorf("exit code %d, said %q; want %d and --listen %s", code, stderr, exitFailed, addr)
	}
}

// TestWrongKeys starts on a folder whose keys were swapped.
func TestWrongKeys(t *testing.T) {
	data, other := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "other")
	for _, d := range []string{data, other} {
		up(t, d).interrupt()
	}
	keys, err := os.ReadFile(filepath.Join(other, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, "keys.json")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("keys.json: got %v (%v), want mode 0600", st.Mode(), err)
	}
	for text, want := range map[string]string{string(keys): "keys.json", "{}": "backup", "no json": "keys.json", `{"id":"a","token":"00"}`: "hexadecimal"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var out, errs bytes.Buffer
		code := run(ctx, []string{"up", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, &out, &errs)
		if code != exitFailed || !strings.Contains(errs.String(), want) {
			t.Errorf("keys %.20q: exit code %d, said %q; want %d and %q", text, code, errs.String(), exitFailed, want)
		}
	}
}

// TestHuntCommands steers a hunt through its whole life.
func TestHuntCommands(t *testing.T) {
	p := up(t, filepath.Join(t.TempDir(), "data"))
	file := write(t, "oslo.yaml", goodHunt)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"hunt", "create", file, "--draft"}, exitDone, "oslo is draft"},
		{[]string{"hunt", "create", file}, exitFailed, "exists"},
		{[]string{"hunt", "resume", "oslo"}, exitDone, "oslo is live"},
		{[]string{"hunt", "set", "oslo", "--shards", "48"}, exitDone, "48 shards"},
		{[]string{"hunt", "set", "oslo", "--shards", "65"}, exitUsage, "shards"},
		{[]string{"hunt", "set", "oslo", "--tiles-per-map", "40"}, exitDone, "48 shards, 40 tiles a map"},
		{[]string{"hunt", "set", "oslo", "--tiles-per-map", "65537"}, exitUsage, "tiles_per_map"},
		{[]string{"hunt", "pause", "oslo"}, exitDone, "oslo is paused"},
		{[]string{"hunt", "list"}, exitDone, "paused"},
		{[]string{"hunt", "list", "--json"}, exitDone, `"oslo"`},
		{[]string{"hunt", "end", "oslo"}, exitDone, "oslo is ended"},
		{[]string{"hunt", "resume", "oslo"}, exitUsage, "ended"},
		{[]string{"hunt", "pause", "bergen"}, exitFailed, "bergen"},
	} {
		var out, errs bytes.Buffer
		code := run(context.Background(), append(c.args, "--admin", p.admin), &out, &errs)
		if said := out.String() + errs.String(); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("cairn %v: exit code %d, said %q; want %d and %q", c.args, code, said, c.code, c.want)
		}
	}
	p.kill()
	if code, _, stderr := cairnCmd(t, "hunt", "list", "--admin", p.admin); code != exitFailed {
		t.Errorf("with nobody there: exit code %d, said %q; want %d", code, stderr, exitFailed)
	}
}

// TestLoad runs the load generator against the real thing: nothing fails,
// nothing that was won goes unseen, and the data is whole afterwards.
func TestLoad(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := up(t, data, "--hunt", write(t, "race.yaml", strings.Replace(raceHunt, "tiles_per_map: 20", "tiles_per_map: 400\npuzzles: {tap: 3, cipher: 1, odd: 1}", 1)))
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"load", "--target", p.public, "--rate", "200", "--players", "40", "--crowd", "3", "--connections", "30", "--codec", "proto", "--stalled", "10", "--for", "3s", "--json"}, &out, &errs)
	var rep struct {
		Outcomes  map[string]int
		Gaps      int
		Unseen    int
		Delta     struct{ Count int }
		Standings struct{ Count int }
		Sockets   struct {
			Delivery                           struct{ Count int }
			Connected, Stalled, States, Behind int
		}
	}
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatalf("%v: %s%s", err, out.String(), errs.String())
	}
	won := rep.Outcomes["won"]
	if code != exitDone || won < 50 || rep.Outcomes["gone"] < won || rep.Outcomes["wrong"] > 0 || rep.Delta.Count != won || rep.Standings.Count != won {
		t.Errorf("exit code %d, said %s, report %s; want some won, each seen in a delta and in the standings, and two gone for each", code, errs.String(), out.String())
	}
	// All but the probe, and one that came last.
	if s := rep.Sockets; s.Connected != 30 || s.Stalled != 2 || s.States != 1 || s.Behind != 0 || s.Delivery.Count == 0 {
		t.Errorf("report %s; want 30 sockets, two of them stalled, and all others to know the same", out.String())
	}
	p.interrupt()
	if code, out := verify(t, data); code != exitDone {
		t.Errorf("verify: exit code %d, want %d:\n%s", code, exitDone, out)
	}
}

// TestSIGTERM has an init system stop it.
func TestSIGTERM(t *testing.T) {
	p := up(t, filepath.Join(t.TempDir(), "data"), "--bots", "3")
	p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.drained
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v; it said: %s", err, p.stderr.String())
	}
}
