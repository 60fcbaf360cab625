//go:build linux

package system

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/control"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/lab"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	// tiles of a map: few, so that a snapshot stays small whatever the rate.
	tiles = 32
	// who makes the operator's changes.
	who = "bench"
)

// An ours is what publishes to our gateways: the map generator, the owner of
// all shards and the operator in one, on the logs that the gateways follow.
type ours struct {
	store    *redislog.Store
	ctl      *control.Control
	maps     eventlog.Writer
	shards   []eventlog.Writer
	gateways []*lab.Role

	rate    float64
	tick    cairn.Tick // of the newest map
	prev    cairn.Digest
	current *cairn.Map
	next    *cairn.Map // nil until half of current is won
	won     int        // tiles of current
}

func (k *Kit) startOurs(ctx context.Context, s *System) error {
	if s.Shards == 0 {
		s.Shards = 24
	}
	redis, err := k.Lab.StartRedis(ctx, k.name("redis"))
	if err != nil {
		return err
	}
	s.beside = []*lab.Process{redis.Process}
	dir, err := k.Lab.Folder(k.name("ours"))
	if err != nil {
		return err
	}
	keys := filepath.Join(dir, "keys.json")
	if err := k.provision(ctx, redis.URL(), keys, s.Shards); err != nil {
		return err
	}
	ledgerDSN := "sqlite:" + filepath.Join(dir, "ledger.db")
	l, err := ledger.Open(ctx, ledgerDSN, ledger.Options{})
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	o := &ours{rate: 1}
	s.ours, s.pub = o, o
	if err := o.open(ctx, redis.URL(), s); err != nil {
		return err
	}
	args := []string{"--log", redis.URL(), "--keys", keys, "--ledger", ledgerDSN, "--guests", "--log-format", "text"}
	return k.startGateways(ctx, s, append(args, s.Args...)...)
}

// provision makes the logs and the keys.
func (k *Kit) provision(ctx context.Context, url, keys string, shards int) error {
	bin, err := k.Lab.Build(ctx)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, bin, "log", "init", "--log", url, "--keys", keys, "--shards-max", strconv.Itoa(shards)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cairn log init: %w\n%s", err, out)
	}
	return nil
}

// open opens the logs, and begins a hunt with a map.
func (o *ours) open(ctx context.Context, url string, s *System) (err error) {
	if o.store, err = redislog.Open(ctx, url, redislog.Options{}); err != nil {
		return err
	}
	if o.ctl, err = control.Open(ctx, o.store, control.Options{}); err != nil {
		return err
	}
	world := cairn.Cell(0)
	changes := []cairn.Change{
		{Hunt: Hunt, Create: &cairn.Hunt{Name: Hunt, Region: cairn.Region{Geohash: &world}, Mask: cairn.MaskNone, Shards: s.Shards, Lifetime: cairn.Duration(time.Hour)}},
		{Hunt: Hunt, State: cairn.Live},
	}
	if s.Sweep > 0 {
		changes = append(changes, sweepIs(s.Sweep))
	}
	for _, c := range changes {
		c.Who = who
		if _, err := o.ctl.Do(ctx, c); err != nil {
			return err
		}
	}
	if o.maps, err = o.store.Open(ctx, eventlog.Maps); err != nil {
		return err
	}
	for i := range s.Shards {
		w, err := o.store.Open(ctx, eventlog.Shard(i))
		if err != nil {
			return err
		}
		o.shards = append(o.shards, w)
	}
	o.current, err = o.emit(ctx)
	return err
}

func sweepIs(d time.Duration) cairn.Change {
	return cairn.Change{Who: who, Knob: "sweep", Value: d.String()}
}

// SetSweep turns the knob: how often our gateways send what changed. It takes
// effect when they have read it in the control log, in a moment.
func (s *System) SetSweep(ctx context.Context, d time.Duration) error {
	if s.ours == nil {
		return fmt.Errorf("%s has no sweep", s.Kind)
	}
	s.Sweep = d
	_, err := s.ours.ctl.Do(ctx, sweepIs(d))
	return err
}

// Metrics returns what each of our gateways measures.
func (s *System) Metrics(ctx context.Context) ([]map[string]*dto.MetricFamily, error) {
	if s.ours == nil {
		return nil, fmt.Errorf("%s has no metrics", s.Kind)
	}
	all := make([]map[string]*dto.MetricFamily, len(s.ours.gateways))
	gets, getCtx := errgroup.WithContext(ctx)
	gets.SetLimit(4)
	for i, g := range s.ours.gateways {
		gets.Go(func() (err error) {
			all[i], err = g.Metrics(getCtx)
			return err
		})
	}
	return all, gets.Wait()
}

// Profile returns what the first of our gateways spends its CPU on, for so long
// from now, as pprof reads it.
func (s *System) Profile(ctx context.Context, d time.Duration) ([]byte, error) {
	if s.ours == nil {
		return nil, fmt.Errorf("%s has no profile", s.Kind)
	}
	return s.ours.gateways[0].Get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(d.Seconds()))))
}

// startGateways starts the gateways and waits until they have read the logs.
// They never say that they are ready, for nobody decides claims here.
func (k *Kit) startGateways(ctx context.Context, s *System, args ...string) error {
	for range s.Spec.Servers {
		g, err := k.Lab.StartRole(ctx, "gateway", k.name("gateway"), args...)
		if err != nil {
			return err
		}
		s.ours.gateways = append(s.ours.gateways, g)
		s.servers = append(s.servers, g.Process)
		s.Targets = append(s.Targets, g.Listen)
	}
	for _, g := range s.ours.gateways {
		if err := awaitLogs(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// logsWithin is how long a gateway may take to read the logs.
const logsWithin = time.Minute

func awaitLogs(ctx context.Context, g *lab.Role) error {
	ctx, cancel := context.WithTimeout(ctx, logsWithin)
	defer cancel()
	for {
		_, why := g.Ready(ctx)
		if strings.Contains(why, `"name":"broadcast","ready":true`) {
			return nil
		}
		select {
		case <-g.Done():
			return fmt.Errorf("%s has ended; its log ends:\n%s", g.Name, g.Tail(10))
		case <-ctx.Done():
			return fmt.Errorf("%s has not read the logs: %w: %s", g.Name, ctx.Err(), why)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (o *ours) pace(perSecond float64) { o.rate = perSecond }

// publish has someone win the next tile of the region that all watch.
func (o *ours) publish(ctx context.Context) (err error) {
	switch {
	case o.next == nil && o.won >= tiles/2:
		if o.next, err = o.emit(ctx); err != nil {
			return err
		}
	case o.won == tiles:
		o.current, o.next, o.won = o.next, nil, 0
	}
	m, tile := o.current, uint32(o.won)
	o.won++
	c := cairn.Claim{
		TileRef: cairn.TileRef{Hunt: Hunt, Tick: m.Tick, Tile: tile}, Cell: m.Tiles[tile].Cell, Reward: m.Tiles[tile].Reward,
		Player: player, Name: name, At: cairn.InstantOf(time.Now()),
	}
	shard := cairn.ShardOf(cairn.SlotterOf(Hunt, m.Tick).Slot(tile), m.Shards)
	_, err = o.shards[shard].Append(ctx, wire.AppendClaims(nil, []cairn.Claim{c}), eventlog.Offset{})
	return err
}

// slowOpen is how long a map is open at least that is published slowly: the rate
// may fall meanwhile, and nothing be published while a crowd is made ready.
const slowOpen = 15 * time.Minute

// emit appends a map that is open from now until all its tiles are won, at the
// rate of now and with some time to spare. The fewer are open, the smaller is a
// snapshot.
func (o *ours) emit(ctx context.Context) (*cairn.Map, error) {
	open := time.Duration(2*tiles/o.rate*float64(time.Second)) + time.Second
	if o.rate <= 1 {
		open = max(open, slowOpen)
	}
	return o.emitMap(ctx, tiles, open)
}

func (o *ours) emitMap(ctx context.Context, tiles int, open time.Duration) (*cairn.Map, error) {
	now := cairn.InstantOf(time.Now())
	o.tick = max(o.tick+1, cairn.Tick(now.Time().Unix()))
	m := &cairn.Map{MapHeader: cairn.MapHeader{Hunt: Hunt, Tick: o.tick, Opens: now, Closes: now.Add(open), Shards: len(o.shards), Tiles: tiles, Prev: o.prev}}
	for i := range tiles {
		const base32 = "0123456789bcdefghjkmnpqrstuvwxyz"
		cell, err := cairn.ParseCell(Region + string([]byte{base32[i%32], base32[i/32%32]}) + "0")
		if err != nil {
			return nil, err
		}
		m.Tiles = append(m.Tiles, cairn.Tile{Cell: cell, Puzzle: cairn.Tap, Reward: 100})
	}
	m.Digest = wire.MapDigest(m)
	o.prev = m.Digest
	for _, body := range [][]byte{wire.AppendMapChunk(nil, m, 0), wire.AppendMapHeader(nil, &m.MapHeader)} {
		if _, err := o.maps.Append(ctx, body, eventlog.Offset{}); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// FillTiles are so many that the delta of a map that opens has FillBytes, or
// some more.
const (
	FillTiles = 768
	FillBytes = 36 << 10
)

// Fill has our gateways send everyone one large delta, without a stamp: of a
// map that is open for a moment. It fills the buffers of those who don't read.
func (s *System) Fill(ctx context.Context) error {
	if s.ours == nil {
		return fmt.Errorf("%s has no maps", s.Kind)
	}
	_, err := s.ours.emitMap(ctx, FillTiles, time.Second)
	return err
}

func (o *ours) close() error {
	if o.store == nil {
		return nil
	}
	var errs []error
	for _, w := range append(o.shards, o.maps) {
		if w != nil {
			errs = append(errs, w.Close())
		}
	}
	return errors.Join(append(errs, o.store.Close())...)
}

// Ours reports whether the system is our gateways.
func (s *System) Ours() bool { return s.ours != nil }
