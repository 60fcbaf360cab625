//go:build unix

package endtoend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/internal/lab"
)

const gatewayPackage = "github.com/veltrix/cairn/bench/claims/endtoend/gateway"

// startLua starts the gateway before a Lua script on Redis.
func (b *bench) startLua(ctx context.Context) (*system, error) {
	redis, err := b.lab.StartRedis(ctx, b.label("redis"), "--appendonly", "no")
	if err != nil {
		return nil, err
	}
	s := &system{name: Lua, procs: []*lab.Process{redis.Process}}
	return s, b.startGateway(ctx, s, "--redis", redis.Addr)
}

// startView starts the gateway before PostgreSQL, its standings read from a
// follower.
func (b *bench) startView(ctx context.Context) (*system, error) {
	s := &system{name: ViewMix}
	var err error
	s.primary, err = b.lab.StartPostgres(ctx, b.label("primary"), lab.PostgresOptions{Durable: true, Settings: peer.PostgresSettings})
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, s.primary.Process)
	// A conflict with what is replayed must not end a reader's query.
	s.follower, err = b.lab.StartFollower(ctx, b.label("follower"), s.primary, "hot_standby_feedback=on", "max_standby_streaming_delay=1s")
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	s.procs = append(s.procs, s.follower.Process)
	return s, b.startGateway(ctx, s, "--postgres", s.primary.DSN(), "--follower", s.follower.DSN(), "--refresh", b.opts.Refresh.String())
}

// startGateway adds the gateway to a system, which it ends if it fails.
func (b *bench) startGateway(ctx context.Context, s *system, args ...string) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.end())
		}
	}()
	bin := filepath.Join(b.lab.Dir, "gateway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", bin, gatewayPackage).CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", gatewayPackage, err, out)
	}
	if s.addr, err = b.loopback(); err != nil {
		return err
	}
	argv := append([]string{bin, "--listen", s.addr, "--hunt", hunt, "--tiles", strconv.Itoa(b.opts.Tiles)}, args...)
	p, err := b.lab.StartProgram(ctx, lab.Program{Name: b.label("gateway"), Argv: argv, Ready: func(*lab.Process) (bool, error) {
		return lab.Answers(ctx, "http://"+s.addr+"/readyz"), nil
	}})
	if err != nil {
		return err
	}
	s.procs = append(s.procs, p)
	s.check = func(ctx context.Context, won int) error {
		c := newCaller(s.addr)
		defer c.close()
		var t peer.Tally
		b, err := c.call(ctx, "GET", "/tally", "", nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &t); err != nil {
			return err
		}
		if t.Tiles != int64(won) || t.Events != int64(won) {
			return fmt.Errorf("the store has %d tiles that are held and %d events; players won %d", t.Tiles, t.Events, won)
		}
		return nil
	}
	return nil
}
