//go:build unix

package engine

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/bench/claims/world"
)

// The workloads.
const (
	Uniform = "uniform" // any tile of the maps that are open
	Zipf    = "zipf"    // some tiles much more than others: rank k with weight k^-1.1
	Hot     = "hot"     // 10,000 players on one tile, then on the next
)

// Workloads returns the names of all workloads.
func Workloads() []string { return []string{Uniform, Zipf, Hot} }

// The size of a game. Attempts go to a few thousand tiles of some maps at a
// time, and when each of those was tried twice on average they go on to the
// next. So the share of attempts that win is the same from the first to the
// last, and for a fast system the same as for a slow one.
const (
	hunt        = "bench"
	players     = 10_000
	tilesAMap   = 8192
	mapsAtOnce  = 4
	tilesAtOnce = 1024 // of each of those maps
	triesATile  = 2
	triesAtOnce = mapsAtOnce * tilesAtOnce * triesATile
	zipfS       = 1.1
)

// An op is one attempt: who tries for which tile.
type op struct {
	m      uint16 // the map's number
	tile   uint16
	player uint16
}

// A workload is a list of attempts, the same for all systems: each puts them in
// this order, and as many as it has time for.
type workload struct {
	name string
	ops  []op
}

// newWorkload returns n attempts. The same name and n make the same list.
func newWorkload(name string, n int) (*workload, error) {
	w := &workload{name: name, ops: make([]op, n)}
	r := rand.New(rand.NewPCG(5, 48))
	var draw func(i int) op
	const tiles = mapsAtOnce * tilesAtOnce
	at := func(i, tile int) op {
		turn := i / triesAtOnce // which tiles of which maps
		const turns = tilesAMap / tilesAtOnce
		return op{
			m:      uint16(turn/turns*mapsAtOnce + tile%mapsAtOnce),
			tile:   uint16(turn%turns*tilesAtOnce + tile/mapsAtOnce),
			player: uint16(r.IntN(players)),
		}
	}
	switch name {
	case Uniform:
		draw = func(i int) op { return at(i, r.IntN(tiles)) }
	case Zipf:
		z := rand.NewZipf(r, zipfS, 1, tiles-1)
		// An odd factor permutes the ranks, so that neighbours are not alike.
		draw = func(i int) op { return at(i, int(z.Uint64()*40503%tiles)) }
	case Hot:
		who := r.Perm(players)
		draw = func(i int) op {
			n := i / players
			return op{m: uint16(n / tilesAMap), tile: uint16(n * 5003 % tilesAMap), player: uint16(who[i%players])}
		}
	default:
		return nil, fmt.Errorf("workload %q: want one of %v", name, Workloads())
	}
	for i := range w.ops {
		w.ops[i] = draw(i)
	}
	return w, nil
}

// maps returns how many maps the first n attempts are about.
func (w *workload) maps(n int) int {
	last := 0
	for i := range n {
		last = max(last, int(w.ops[i].m))
	}
	return last + 1
}

// A tileID numbers the tiles of all maps.
type tileID int

func (o op) tileID() tileID { return tileID(int(o.m)*tilesAMap + int(o.tile)) }

// A scene is the maps and players that the attempts of one run are about.
type scene struct {
	*workload
	first   cairn.Tick // of the map with the number 0; each further one is a tick earlier
	players [players]string
	cells   [tilesAMap]string // geohashes, which are the same on each map
}

func newScene(w *workload) *scene {
	s := &scene{workload: w, first: world.Newest()}
	for i := range s.players {
		s.players[i] = "player-" + strconv.Itoa(i)
	}
	for i := range s.cells {
		s.cells[i] = world.Cell(i).String()
	}
	return s
}

func (s *scene) tick(m uint16) cairn.Tick { return s.first - cairn.Tick(m) }

// player returns a player's number, or -1 if there is no such player.
func player(name string) int {
	n, err := strconv.Atoi(name[min(len(name), len("player-")):])
	if err != nil || n < 0 || n >= players {
		return -1
	}
	return n
}

// ours fills as with the attempts from the given one on, as ours takes them.
func (s *scene) ours(as []cairn.Attempt, first int) {
	for i := range as {
		o := s.ops[first+i]
		name := s.players[o.player]
		as[i] = cairn.Attempt{
			TileRef: cairn.TileRef{Hunt: hunt, Tick: s.tick(o.m), Tile: uint32(o.tile)},
			Player:  cairn.PlayerID(name), Name: name,
		}
	}
}

// peers fills as with the attempts from the given one on, as peers take them.
func (s *scene) peers(as []peer.Attempt, first int) {
	for i := range as {
		o := s.ops[first+i]
		as[i] = peer.Attempt{
			Hunt: hunt, Tick: int64(s.tick(o.m)), Tile: uint32(o.tile), Player: s.players[o.player],
			Reward: int64(world.Reward(int(o.tile))), Geohash: s.cells[o.tile],
		}
	}
}

// mapOf returns a map as ours has it.
func (s *scene) mapOf(m, shards int) *cairn.Map {
	return world.Map(hunt, s.tick(uint16(m)), tilesAMap, shards)
}

// peerMap returns a map as peers have it.
func (s *scene) peerMap(m int) *peer.Map {
	p := &peer.Map{Hunt: hunt, Tick: int64(s.tick(uint16(m))), Tiles: make([]peer.Tile, tilesAMap)}
	for i := range p.Tiles {
		p.Tiles[i] = peer.Tile{Geohash: s.cells[i], Reward: int64(world.Reward(i))}
	}
	return p
}
