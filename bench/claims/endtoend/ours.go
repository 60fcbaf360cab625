//go:build unix

package endtoend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/veltrix/cairn/internal/lab"
)

// hunt is the name of every hunt that is played here.
const hunt = "bench"

// huntFile is a hunt whose tiles need no puzzle: a race.
const huntFile = `name: bench
region: {geohash: u4}
mask: none
tiles_per_map: %d
tick: 1s
lifetime: 30s
shards: 24
puzzles: {tap: 1}
reward: {min: 100, max: 5000, budget: 900000000000000}
`

// Players try the newest maps but for the last, which may be a moment late on a
// machine that is full.
const (
	mapsOpen  = 4
	mapsFirst = 2 // that are there before anybody tries
)

// A system is what is measured: a gateway that players reach, and all that is
// behind it.
type system struct {
	name  string
	addr  string // of the players' listener
	first int64  // tick of its first map, or of one that came a little later
	procs []*lab.Process

	// check compares what the store holds with so many claims that players
	// were told they had won. Nothing may be in flight; what it checks may be
	// ended by it.
	check func(ctx context.Context, won int) error

	primary, follower *lab.Postgres // nil where there is none
}

// await waits until there are maps to try.
func (s *system) await(ctx context.Context) error {
	s.first = time.Now().Unix() + 1
	select {
	case <-time.After(time.Until(time.Unix(s.first+mapsFirst, 0))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// draw returns a tile of a map that is open.
func (s *system) draw(now time.Time, r *rand.Rand, tiles int) target {
	newest := now.Unix() - 1
	return target{newest - r.Int64N(min(mapsOpen, newest-s.first+1)), r.Uint32N(uint32(tiles))}
}

// end ends a system.
func (s *system) end() error {
	var errs []error
	for i := range s.procs {
		errs = append(errs, s.procs[len(s.procs)-1-i].Kill())
	}
	return errors.Join(errs...)
}

// loopback returns an address that is free.
func (b *bench) loopback() (string, error) {
	port, err := b.lab.FreePort()
	return "127.0.0.1:" + strconv.Itoa(port), err
}

// startUp starts `cairn up` on a Redis or, if that is nil, on a log on disk.
func (b *bench) startUp(ctx context.Context, name string, redis *lab.Redis) (*system, error) {
	bin, err := b.lab.Build(ctx)
	if err != nil {
		return nil, err
	}
	label := b.label(name)
	dir, err := b.lab.Folder(label)
	if err != nil {
		return nil, err
	}
	file, data := filepath.Join(dir, "hunt.yaml"), filepath.Join(dir, "data")
	if err := os.WriteFile(file, fmt.Appendf(nil, huntFile, b.opts.Tiles), 0o600); err != nil {
		return nil, err
	}
	public, err1 := b.loopback()
	admin, err2 := b.loopback()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	argv := []string{
		bin, "up", "--listen", public, "--admin", admin, "--data", data, "--hunt", file, "--bots", "0",
		"--claim-rate", "1000000", "--claim-burst", "1000000",
	}
	verify := []string{"verify", "--json", "--data", data}
	s := &system{name: name, addr: public}
	if redis != nil {
		argv = append(argv, "--log", redis.URL())
		verify = []string{"verify", "--json", "--log", redis.URL(), "--ledger", "sqlite:" + filepath.Join(data, "ledger.db")}
		s.procs = append(s.procs, redis.Process)
	}
	up, err := b.lab.StartProgram(ctx, lab.Program{Name: label, Argv: argv, Ready: func(*lab.Process) (bool, error) {
		return lab.Answers(ctx, "http://"+admin+"/readyz"), nil
	}})
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	s.procs = append(s.procs, up)
	s.check = func(ctx context.Context, won int) error {
		if err := up.Stop(ctx); err != nil {
			return err
		}
		return verified(ctx, exec.CommandContext(ctx, bin, verify...), won)
	}
	return s, nil
}

// verified runs `cairn verify`, which folds the logs, and compares the claims
// that it found.
func verified(ctx context.Context, cmd *exec.Cmd, won int) error {
	out, err := cmd.Output()
	var report struct {
		OK     bool  `json:"ok"`
		Claims int64 `json:"claims"`
	}
	if json.Unmarshal(out, &report) != nil || err != nil && ctx.Err() == nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		return fmt.Errorf("cairn verify: %w: %.2000s", err, out)
	}
	if !report.OK || report.Claims != int64(won) {
		return fmt.Errorf("cairn verify: ok %v, %d claims; players won %d", report.OK, report.Claims, won)
	}
	return nil
}
