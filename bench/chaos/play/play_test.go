package play

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

const hunt = `name: chaos
region: {geohash: u4}
mask: none
tiles_per_map: 400
lifetime: 5s
shards: 8
puzzles: {tap: 1}
reward: {min: 1, max: 1000, budget: 1000000000000}
`

// A server is a real cairn up, which may be killed and started again.
type server struct {
	t    *testing.T
	bin  string
	args []string
	cmd  *exec.Cmd
	base string
}

func newServer(t *testing.T) *server {
	dir := t.TempDir()
	bin := filepath.Join(dir, "cairn")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/veltrix/cairn/cmd/cairn").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	file := filepath.Join(dir, "hunt.yaml")
	if err := os.WriteFile(file, []byte(hunt), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, bin: bin, args: []string{
		"up", "--data", filepath.Join(dir, "data"), "--hunt", file, "--bots", "0", "--admin", "127.0.0.1:0",
		"--claim-rate", "1000000", "--claim-burst", "1000000", "--log-level", "warn",
	}}
	s.start()
	t.Cleanup(s.kill)
	return s
}

var listens = regexp.MustCompile(`play\s+(http://[^/\s]+)`)

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.bin, append(s.args, "--listen", "127.0.0.1:0")...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if m := listens.FindStringSubmatch(lines.Text()); m != nil {
			s.base = m[1]
			return // what else it prints fits the pipe
		}
	}
	s.t.Fatal("cairn up did not print where it is")
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // it was killed
}

// TestKilled plays while the server is killed and started again. Nobody may be
// told anything that could not be, and holders hear the same.
func TestKilled(t *testing.T) {
	s := newServer(t)
	bases := make(chan string, 1) // where it is now
	bases <- s.base
	opts := Options{
		Hunt: "chaos", Tick: time.Second, Lifetime: 5 * time.Second, Rate: 200, Again: 1, Seed: 1,
		Gateways: func() []string { b := <-bases; bases <- b; return []string{b} },
	}
	p, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitMap(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx, t.Context())
	}()
	await := func(what string, since time.Time) {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			c, _ := p.Touching(since, time.Now())
			if c.Won >= 200 && c.Gone >= 100 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%s: %+v in a minute, want 200 won and 100 gone", what, c)
				return
			}
		}
	}
	await("at first", p.Started())
	killed := time.Now()
	s.kill()
	s.start()
	<-bases
	bases <- s.base
	await("after the kill", time.Now())
	stop()
	<-done
	f := p.History.Findings()
	if f.Broken() || f.Won < 200 || f.Same == 0 {
		t.Errorf("findings: %+v", f)
	}
	if held := len(p.History.Held()); held == 0 {
		t.Error("no map has holders")
	}
	var longest time.Duration
	for _, shard := range p.Shards {
		longest = max(longest, shard.Longest(killed, time.Now()).Length())
	}
	if longest == 0 {
		t.Error("the kill left no gap")
	}
	t.Logf("%+v; without service for %v", f, longest)
}
