package broadcast

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	huntID   = cairn.HuntID("oslo")
	shardsIn = 3
)

// The connection halves, as eachHalf names them.
const (
	native   = "native"     // of this system
	oneByOne = "one by one" // the same, without batches of system calls
	portable = "portable"
)

// eachHalf runs a test once with each connection half: a rig finds out which
// one by the test's name.
func eachHalf(t *testing.T, test func(*testing.T)) {
	t.Run(native, test)
	t.Run(portable, test)
}

// eachWay is eachHalf for tests of how bytes are written.
func eachWay(t *testing.T, test func(*testing.T)) {
	eachHalf(t, test)
	t.Run(oneByOne, test)
}

// isOf reports whether a test runs in a way of eachWay.
func isOf(t testing.TB, way string) bool {
	return strings.Contains(t.Name()+"/", "/"+strings.ReplaceAll(way, " ", "_")+"/")
}

// eachCodec runs a test with each connection half and each codec: clients
// speak JSON to the test, whatever is on the wire.
func eachCodec(t *testing.T, test func(*testing.T)) {
	eachHalf(t, test)
	t.Run(inProto, func(t *testing.T) { eachHalf(t, test) })
}

const inProto = "proto"

// A rig is a hub on a real log and a real socket, with a clock of its own.
type rig struct {
	t     testing.TB
	store *filelog.Store
	hub   *Hub
	reg   *prometheus.Registry
	now   atomic.Int64 // cairn.Instant
	ln    net.Listener
	edge  *testEdge
	codec Codec // of those who dial

	broken bool // the test closes the store itself

	maps, control, standings eventlog.Writer
	shards                   []eventlog.Writer
	next                     cairn.Tick // the next map's
	prev                     cairn.Digest
}

func newRig(t testing.TB, opts Options) *rig {
	t.Helper()
	return newRigOn(t, opts, func(s eventlog.Store) eventlog.Store { return s })
}

// noPings is for clients that don't expect any: the first one comes at random
// within it.
const noPings = 1000 * time.Hour

// newRigOn returns a rig whose hub sees the store through a wrapper.
func newRigOn(t testing.TB, opts Options, wrap func(eventlog.Store) eventlog.Store) *rig {
	t.Helper()
	ctx := t.Context()
	store, err := filelog.Open(t.TempDir(), filelog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	specs := []eventlog.Spec{{Name: eventlog.Control}, {Name: eventlog.Maps}, {Name: eventlog.Standings, Volatile: true}}
	for i := range shardsIn {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := store.Provision(ctx, specs...); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: store, reg: prometheus.NewRegistry(), edge: &testEdge{}}
	r.now.Store(int64(cairn.InstantOf(time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC))))
	open := func(name eventlog.Name) eventlog.Writer {
		w, err := store.Open(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	r.control, r.maps, r.standings = open(eventlog.Control), open(eventlog.Maps), open(eventlog.Standings)
	for i := range shardsIn {
		r.shards = append(r.shards, open(eventlog.Shard(i)))
	}
	r.change(cairn.Change{Hunt: huntID, Create: testHunt(huntID)})
	r.change(cairn.Change{Hunt: huntID, State: cairn.Live})

	if opts.Sweep == 0 {
		opts.Sweep = 5 * time.Millisecond
	}
	opts.Now = func() time.Time { return cairn.Instant(r.now.Load()).Time() }
	opts.Metrics, opts.sweepIdle = r.reg, 20*time.Millisecond
	opts.Portable, opts.oneByOne = isOf(t, portable), isOf(t, oneByOne)
	if strings.Contains(t.Name(), "/"+inProto+"/") {
		r.codec = Proto
	}
	if opts.PingEvery == 0 {
		opts.PingEvery = noPings
	}
	r.hub = New(wrap(store), opts)
	r.ln, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	hctx, stop := context.WithCancel(context.Background())
	all.Go(func() {
		if err := r.hub.Run(hctx); err != nil && !r.broken {
			t.Errorf("Run: %v", err)
		}
	})
	all.Go(func() { r.accept(&all) })
	t.Cleanup(func() {
		r.ln.Close()
		stop()
		all.Wait()
		if err := store.Close(); err != nil && !r.broken {
			t.Error(err)
		}
	})
	r.until("the hub is ready", func() bool { return r.hub.Ready() == nil })
	return r
}

func testHunt(id cairn.HuntID) *cairn.Hunt {
	world := cairn.Cell(0)
	h := cairn.Hunt{Name: id, Region: cairn.Region{Geohash: &world}, Shards: shardsIn}.WithDefaults()
	return &h
}

// accept upgrades and serves connections, as the edge does.
func (r *rig) accept(all *sync.WaitGroup) {
	for {
		nc, err := r.ln.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			hs, err := ws.Upgrader{Protocol: func(b []byte) bool { _, ok := CodecOf(string(b)); return ok }}.Upgrade(nc)
			if err != nil {
				nc.Close()
				return
			}
			codec, _ := CodecOf(hs.Protocol)
			r.hub.Serve(nc, nil, codec, r.edge, r.edge.served)
		})
	}
}

// until waits for a condition that must come.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for over := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(over) {
			r.t.Fatalf("waited too long until %s", what)
		}
	}
}

// sweep waits until all that was done before is swept.
func (r *rig) sweep() {
	r.t.Helper()
	seq := r.seq()
	r.until("the next sweep", func() bool {
		r.hub.changed()
		return r.seq() >= seq+2
	})
}

func (r *rig) seq() uint64 {
	r.hub.mu.RLock()
	defer r.hub.mu.RUnlock()
	return r.hub.seq
}

func (r *rig) instant() cairn.Instant { return cairn.Instant(r.now.Load()) }

func (r *rig) pass(d time.Duration) { r.now.Add(d.Microseconds()) }

func (r *rig) append(w eventlog.Writer, body []byte) {
	r.t.Helper()
	if _, err := w.Append(context.Background(), body, eventlog.Offset{}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) change(c cairn.Change) {
	r.t.Helper()
	c.Who, c.When = "test", r.instant()
	b, err := wire.AppendChange(nil, &c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.append(r.control, b)
}

// addMap appends a map that opens after a while and stays open for 30 s.
func (r *rig) addMap(in time.Duration, cells ...string) *cairn.Map {
	r.t.Helper()
	m := r.newMap(in, cells...)
	for first := 0; first < len(m.Tiles); first += wire.TilesPerChunk {
		r.append(r.maps, wire.AppendMapChunk(nil, m, first))
	}
	r.append(r.maps, wire.AppendMapHeader(nil, &m.MapHeader))
	return m
}

func (r *rig) newMap(in time.Duration, cells ...string) *cairn.Map {
	r.next++
	m := &cairn.Map{MapHeader: cairn.MapHeader{
		Hunt: huntID, Tick: r.next, Opens: r.instant().Add(in), Shards: shardsIn, Tiles: len(cells), Prev: r.prev,
	}}
	m.Closes = m.Opens.Add(30 * time.Second)
	for i, s := range cells {
		c, err := cairn.ParseCell(s)
		if err != nil {
			r.t.Fatal(err)
		}
		m.Tiles = append(m.Tiles, cairn.Tile{Cell: c, Puzzle: cairn.Tap, Reward: cairn.Micro(100 + i)})
	}
	m.Digest = wire.MapDigest(m)
	r.prev = m.Digest
	return m
}

// open appends a map that is open now, and waits until the hub says so.
func (r *rig) open(cells ...string) *cairn.Map {
	r.t.Helper()
	m := r.addMap(0, cells...)
	r.until("the map is folded", func() bool { _, ok := r.hub.Map(huntID, m.Tick); return ok })
	r.sweep()
	return m
}

func (r *rig) claimOf(m *cairn.Map, tile int, player string) cairn.Claim {
	return cairn.Claim{
		TileRef: cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(tile)},
		Cell:    m.Tiles[tile].Cell, Reward: m.Tiles[tile].Reward,
		Player: cairn.PlayerID(player), Name: "Name of " + player, At: r.instant(),
	}
}

// claim appends claims to the logs of their shards.
func (r *rig) claim(cs ...cairn.Claim) {
	r.t.Helper()
	for i := range cs {
		shard := cairn.ShardOf(cairn.SlotterOf(cs[i].Hunt, cs[i].Tick).Slot(cs[i].Tile), shardsIn)
		r.append(r.shards[shard], wire.AppendClaims(nil, cs[i:i+1]))
	}
}

// metric returns the sum of a metric's values, or a histogram's count.
func (r *rig) metric(name string) float64 {
	r.t.Helper()
	fams, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range fams {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// A testEdge knows the tokens "token-NAME", and answers each claim at once
// unless it is told to hold them.
type testEdge struct {
	mu    sync.Mutex
	hold  bool
	held  []func()
	ended []error
}

func (e *testEdge) Hello(token string) (cairn.PlayerID, string, error) {
	var name string
	if _, err := fmt.Sscanf(token, "token-%s", &name); err != nil {
		return "", "", errors.New("token: is not one of ours")
	}
	return cairn.PlayerID(name), "Name of " + name, nil
}

func (e *testEdge) Claims(_ context.Context, player cairn.PlayerID, name string, codec Codec, cs []wire.ClaimFrame, reply func([]byte)) {
	for _, c := range cs {
		e.claim(player, name, codec, c.ID, reply)
	}
}

func (e *testEdge) claim(player cairn.PlayerID, name string, codec Codec, id string, reply func([]byte)) {
	answer := func() {
		if codec == Proto {
			reply(outcomeProto(id, player, name))
			return
		}
		b, err := json.Marshal(map[string]any{"type": "outcome", "id": id, "outcome": "gone", "winner": player, "winner_name": name})
		if err != nil {
			panic(err)
		}
		reply(b)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hold {
		e.held = append(e.held, answer)
		return
	}
	go answer()
}

func (e *testEdge) served(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = append(e.ended, err)
}

// A client is an independent WebSocket client. It says and hears JSON, and
// translates it if it has the other codec.
type client struct {
	t      testing.TB
	ws     *websocket.Conn
	codec  Codec
	boards bool // it watches standings
}

func (r *rig) dial() *client { r.t.Helper(); return r.dialIn(r.codec, nil) }

// dialIn connects in a codec; via may be nil.
func (r *rig) dialIn(codec Codec, via *http.Client) *client {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+r.ln.Addr().String()+"/v1/live", &websocket.DialOptions{
		Subprotocols: []string{codec.String()}, HTTPClient: via,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetReadLimit(-1)
	r.t.Cleanup(func() { c.CloseNow() })
	return &client{t: r.t, ws: c, codec: codec}
}

func (c *client) send(text string) {
	c.t.Helper()
	kind, b := websocket.MessageText, []byte(text)
	if c.codec == Proto {
		kind = websocket.MessageBinary
		c.boards = strings.Contains(text, `"standings":true`)
		if pb, err := protoOf(text); err != nil {
			b = []byte{0xff} // as bad in the one as in the other
		} else {
			b = pb
		}
	}
	if err := c.ws.Write(c.t.Context(), kind, b); err != nil {
		c.t.Fatalf("send %s: %v", text, err)
	}
}

// read returns the next message, or the error that ends the connection.
func (c *client) read() (msg, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	kind, b, err := c.ws.Read(ctx)
	if err != nil {
		return msg{}, err
	}
	if (kind == websocket.MessageBinary) != (c.codec == Proto) {
		return msg{}, fmt.Errorf("got a message of kind %v in %v", kind, c.codec)
	}
	if c.codec == Proto {
		if b, err = jsonOf(b, c.boards); err != nil {
			return msg{}, err
		}
	}
	return parseMsg(b)
}

func parseMsg(b []byte) (msg, error) {
	m := msg{raw: string(b)}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", b, err)
	}
	return m, nil
}

// want reads messages until one of a type comes, and returns it.
func (c *client) want(kind string) msg {
	c.t.Helper()
	for {
		m, err := c.read()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", kind, err)
		}
		if m.Type == kind {
			return m
		}
	}
}

// hello says hello and returns the welcome.
func (c *client) hello(rest string) msg {
	c.t.Helper()
	c.send(`{"type":"hello"` + rest + `}`)
	m, err := c.read()
	if err != nil || m.Type != "welcome" {
		c.t.Fatalf("got %+v, %v; want a welcome", m, err)
	}
	return m
}

func watchText(standings bool, regions ...string) string {
	if regions == nil {
		regions = []string{}
	}
	j, err := json.Marshal(map[string]any{"type": "watch", "hunt": huntID, "regions": regions, "standings": standings})
	if err != nil {
		panic(err)
	}
	return string(j)
}

// join connects, watches regions and returns the first snapshot.
func (r *rig) join(regions ...string) (*client, msg) {
	r.t.Helper()
	c := r.dial()
	c.hello("")
	c.send(watchText(false, regions...))
	return c, c.want("snapshot")
}

// A msg is any message of the server's.
type msg struct {
	raw string

	Type, Epoch, Player string
	Hunt, Region        string
	From, Seq           uint64
	Regions             []string
	Maps, Opened        []mapMsg
	Closed              []int64
	Claimed             []claimedMsg
	Standings           []boardMsg
	WithinMS            int64 `json:"within_ms"`
	Code, Detail, ID    string
	Outcome, Winner     string
	boardMsg
}

type mapMsg struct {
	Hunt          string
	Tick          int64
	Opens, Closes cairn.Instant
	Shards        int
	Digest, Prev  string
	Tiles         []tileMsg
	Claimed       []claimedMsg
}

type tileMsg struct {
	Index           int
	Geohash, Puzzle string
	Reward          int64
}

type claimedMsg struct {
	Map          int64
	Tile         int
	Player, Name string
	At           cairn.Instant
}

type boardMsg struct {
	Window  string
	LagMS   int64             `json:"lag_ms"`
	AsOf    map[string]string `json:"as_of"`
	Players int
	Rows    []struct {
		Rank         int
		Player, Name string
		Score        int64
		Claims       int
	}
}
