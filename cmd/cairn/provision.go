package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
)

// genesisFile is the file of a data folder that tells which logs in Redis are
// its own.
const genesisFile = "log.json"

// A genesis is the unique id of each log of a system, in hexadecimal.
type genesis struct {
	Logs map[eventlog.Name]string `json:"genesis"`
}

// openStore opens the logs of a game: those in its folder, or in Redis.
func openStore(ctx context.Context, opts gameOptions, reg prometheus.Registerer) (eventlog.Store, error) {
	if opts.redis.given() {
		s, err := opts.redis.open(ctx, opts.log, reg, redislog.Options{})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	if _, err := os.Stat(filepath.Join(opts.dir, genesisFile)); err == nil {
		return nil, usagef("--log: is missing; the logs of %s are in Redis, and it would begin anew without them", opts.dir)
	}
	s, err := filelog.Open(filepath.Join(opts.dir, logDir), filelog.Options{Log: opts.log, Metrics: reg})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// provision makes the logs that a game needs. In Redis it does that once: a
// folder that has known logs there and does not find them has lost them.
func (g *game) provision(ctx context.Context) error {
	if !g.opts.redis.given() {
		return g.store.Provision(ctx, specs(g.opts.shards)...)
	}
	path := filepath.Join(g.opts.dir, genesisFile)
	known, err := readGenesis(path)
	if err != nil {
		return err
	}
	names, err := g.store.Logs(ctx)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	if known == nil && len(names) == 0 {
		if err := g.store.Provision(ctx, specs(g.opts.shards)...); err != nil {
			return fmt.Errorf("--log: %w", err)
		}
		if names, err = g.store.Logs(ctx); err != nil {
			return fmt.Errorf("--log: %w", err)
		}
	}
	found, err := genesisOf(ctx, g.store, names)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	if err := known.holds(found, g.opts.dir); err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	if g.opts.shards, err = provisioned(names); err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	return found.write(path)
}

// readGenesis reads what a data folder knows, nil if it knows nothing.
func readGenesis(path string) (*genesis, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g := new(genesis)
	if err := json.Unmarshal(data, g); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

func genesisOf(ctx context.Context, store eventlog.Store, names []eventlog.Name) (*genesis, error) {
	g := &genesis{Logs: map[eventlog.Name]string{}}
	for _, name := range names {
		st, err := store.Status(ctx, name)
		if err != nil {
			return nil, err
		}
		g.Logs[name] = hex.EncodeToString(st.Genesis[:])
	}
	return g, nil
}

// holds returns nil if all logs that g knows are among those found.
func (g *genesis) holds(found *genesis, dir string) error {
	if g == nil {
		return nil
	}
	for name, id := range g.Logs {
		switch got := found.Logs[name]; got {
		case id:
		case "":
			return fmt.Errorf("log %s: %w: %s has known it, so it was lost: bring its data back, or start anew: cairn log reset, and another --data folder", name, eventlog.ErrMissing, dir)
		default:
			return fmt.Errorf("log %s: %w: its genesis is %s, and %s has known %s: it is another system's, or was begun anew: use its own --data folder", name, eventlog.ErrMissing, got, dir, id)
		}
	}
	return nil
}

func (g *genesis) write(path string) error {
	data, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(path, append(data, '\n'), 0o644)
}

// writeWhole writes a file as a whole or not at all, and durably.
func writeWhole(path string, data []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
