package filelog

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

// killedDir tells a child process of this test binary where to append.
const killedDir = "CAIRN_FILELOG_KILLED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		if err := appendForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const killedShards = 24

// appendForEver appends to all shards, and says so after each
// acknowledgement: "log offset body".
func appendForEver(dir string) error {
	ctx := context.Background()
	s, err := Open(dir, Options{memTableBytes: 256 << 10})
	if err != nil {
		return err
	}
	specs := []eventlog.Spec{{Name: eventlog.Standings, Volatile: true}}
	for i := range killedShards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := s.Provision(ctx, specs...); err != nil {
		return err
	}
	errs := make(chan error)
	for i, spec := range specs {
		go func() {
			w, err := s.Open(ctx, spec.Name)
			for n := 0; err == nil; n++ {
				var o eventlog.Offset
				body := fmt.Sprintf("%d-%d-%s", i, n, strings.Repeat("x", n%300))
				if o, err = w.Append(ctx, []byte(body), eventlog.Offset{}); err == nil && !spec.Volatile {
					// One write, so that a line is whole or not there.
					_, err = os.Stdout.WriteString(fmt.Sprintf("%s %v %s\n", spec.Name, o, body))
				}
			}
			errs <- err
		}()
	}
	return <-errs
}

// TestKill kills a process while it appends, again and again, and finds all
// that it was told.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acked := make(map[string]map[string]string) // log, offset: body
	for round, lines := range []int{1, 700, 3000} {
		last := killRound(t, dir, lines, acked)
		s, err := Open(dir, Options{ReadOnly: round%2 == 0})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		n := 0
		for log, records := range acked {
			got, err := readAll(s, eventlog.Name(log))
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			for o, body := range records {
				at, err := eventlog.ParseOffset(o)
				if err != nil {
					t.Fatal(err)
				}
				n++
				if got[at] != body {
					t.Errorf("round %d: log %s: record %s has body %.20q, acknowledged was %.20q", round, log, o, got[at], body)
				}
			}
		}
		if _, err := readAll(s, eventlog.Standings); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		t.Logf("round %d: %d acknowledged, the last %q", round, n, last)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killRound runs a child until it has acknowledged so many appends, kills it,
// and notes all that it had said.
func killRound(t *testing.T, dir string, lines int, acked map[string]map[string]string) (last string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedDir+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var kill sync.Once
	n := 0
	for scan := bufio.NewScanner(out); scan.Scan(); {
		log, rest, _ := strings.Cut(scan.Text(), " ")
		offset, body, ok := strings.Cut(rest, " ")
		if !ok {
			t.Fatalf("the child said %q", scan.Text())
		}
		if acked[log] == nil {
			acked[log] = make(map[string]string)
		}
		acked[log][offset] = body
		last = log + " " + offset
		if n++; n >= lines { // what is in the pipe was acknowledged too
			kill.Do(func() {
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if err := cmd.Wait(); err == nil || n < lines {
		t.Fatalf("the child ended by itself after %d lines: %v: %s", n, err, stderr.String())
	}
	return last
}

// TestInUse: a second process, and this one, are refused while a folder is open.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	for _, readOnly := range []bool{false, true} {
		_, err := Open(dir, Options{ReadOnly: readOnly})
		wantInUse(t, dir, fmt.Sprint(err))
	}
	out, err := inChild(dir)
	if err == nil {
		t.Error("a second process opened the folder")
	}
	wantInUse(t, dir, out)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir, Options{}).Close()
}

func inChild(dir string) (stderr string, err error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedDir+"="+dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func wantInUse(t *testing.T, dir, got string) {
	t.Helper()
	if !strings.Contains(got, eventlog.ErrInUse.Error()) || !strings.Contains(got, dir) {
		t.Errorf("error %q, want %q with the folder's name", got, eventlog.ErrInUse)
	}
}
