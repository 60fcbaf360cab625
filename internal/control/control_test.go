package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/control"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/wire"
)

const shards = 4

func openStore(t *testing.T, fs vfs.FS) eventlog.Store {
	t.Helper()
	s, err := filelog.Open("store", filelog.Options{FS: fs})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	specs := []eventlog.Spec{{Name: eventlog.Control}}
	for i := range shards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	must(t, s.Provision(t.Context(), specs...))
	return s
}

func open(t *testing.T, s eventlog.Store, opts control.Options) *control.Control {
	t.Helper()
	c, err := control.Open(t.Context(), s, opts)
	must(t, err)
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hunt(name string) *cairn.Hunt {
	world := cairn.Cell(0)
	return &cairn.Hunt{Name: cairn.HuntID(name), Region: cairn.Region{Geohash: &world}, Shards: 2}
}

// records returns the changes in the control log.
func records(t *testing.T, s eventlog.Store) (all []cairn.Change) {
	t.Helper()
	st, err := s.Status(t.Context(), eventlog.Control)
	must(t, err)
	f, err := s.Follow(t.Context(), eventlog.Control, eventlog.Offset{})
	must(t, err)
	defer f.Close()
	for at := (eventlog.Offset{}); at.Less(st.Last); {
		recs, _, err := f.Next(t.Context())
		must(t, err)
		for _, r := range recs {
			at = r.Offset
			if r.Kind == eventlog.Data {
				ch, err := wire.DecodeChange(r.Body)
				must(t, err)
				all = append(all, ch)
			}
		}
	}
	return all
}

// TestLife takes a hunt from its creation to its end, and reads it back from
// the disk.
func TestLife(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	at := cairn.Instant(1_800_000_000_000_000)
	c := open(t, s, control.Options{Now: func() time.Time { return at.Time() }})
	do := func(ch cairn.Change) cairn.HuntStatus {
		t.Helper()
		ch.Who = "ana"
		st, err := c.Do(t.Context(), ch)
		must(t, err)
		return st
	}
	st := do(cairn.Change{Create: hunt("oslo")})
	if st.State != cairn.Draft || st.TilesPerMap != 1000 || st.By != "ana" || st.Created != at {
		t.Errorf("created: got %+v, want a draft with defaults, by ana, at %v", st, at)
	}
	for _, state := range []cairn.State{cairn.Live, cairn.Paused, cairn.Live} {
		if st := do(cairn.Change{Hunt: "oslo", State: state}); st.State != state || c.Hunt("oslo").State != state {
			t.Errorf("set to %s: got %s, and %s from Hunt", state, st.State, c.Hunt("oslo").State)
		}
	}
	if st := do(cairn.Change{Hunt: "oslo", Shards: 4}); st.Shards != 4 || st.State != cairn.Live {
		t.Errorf("got %d shards in state %s, want 4, live", st.Shards, st.State)
	}
	if st := do(cairn.Change{Hunt: "oslo", TilesPerMap: 40}); st.TilesPerMap != 40 || st.Shards != 4 || st.By != "ana" {
		t.Errorf("got %d tiles a map and %d shards, by %s, want 40 and 4, by ana", st.TilesPerMap, st.Shards, st.By)
	}
	do(cairn.Change{Knob: "sweep", Value: "50ms"})
	do(cairn.Change{Key: "f00d"})
	n := len(records(t, s))

	// Again what is so already: done, and not recorded.
	do(cairn.Change{Hunt: "oslo", State: cairn.Live})
	do(cairn.Change{Hunt: "oslo", Shards: 4})
	do(cairn.Change{Hunt: "oslo", TilesPerMap: 40})
	do(cairn.Change{Knob: "sweep", Value: "50ms"})
	do(cairn.Change{Key: "f00d"})
	if got := len(records(t, s)); got != n || n != 8 {
		t.Errorf("%d records after changes that change nothing, want %d, and that 8", got, n)
	}

	must(t, s.Close())
	c = open(t, openStore(t, fs), control.Options{})
	if got := c.Hunt("oslo"); got == nil || got.State != cairn.Live || got.Shards != 4 || got.TilesPerMap != 40 || got.By != "ana" {
		t.Errorf("read back: got %+v, want live, 4 shards, 40 tiles a map, by ana", got)
	}
	if c.Knob("sweep") != "50ms" || c.Knob("other") != "" || c.Key() != "f00d" || len(c.Hunts()) != 1 {
		t.Errorf("read back: knob %q, key %q, %d hunts", c.Knob("sweep"), c.Key(), len(c.Hunts()))
	}
}

func TestRefusals(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	noLand := &cairn.FieldError{Field: "region", Msg: "has no land"}
	c := open(t, s, control.Options{CheckHunt: func(h cairn.Hunt) error {
		if h.Name == "atlantis" || h.TilesPerMap == 60_000 {
			return noLand
		}
		return nil
	}})
	for _, ch := range []cairn.Change{{Create: hunt("oslo")}, {Create: hunt("over")}, {Hunt: "over", State: cairn.Ended}, {Key: "f00d"}} {
		_, err := c.Do(t.Context(), ch)
		must(t, err)
	}
	n := len(records(t, s))
	many := hunt("many")
	many.Shards = shards + 1
	bad := hunt("bad")
	bad.TilesPerMap = -1
	big := hunt("big")
	big.Region = cairn.Region{GeoJSON: []byte(`{"type":"Polygon","x":"` + strings.Repeat("x", eventlog.BodyBytesMax) + `"}`)}
	for _, x := range []struct {
		name string
		ch   cairn.Change
		want error  // or
		text string // of a FieldError
	}{
		{"name taken", cairn.Change{Create: hunt("oslo")}, cairn.ErrHuntExists, ""},
		{"name of an ended hunt", cairn.Change{Create: hunt("over")}, cairn.ErrHuntExists, ""},
		{"unknown", cairn.Change{Hunt: "rome", State: cairn.Live}, cairn.ErrHuntUnknown, ""},
		{"no way back", cairn.Change{Hunt: "over", State: cairn.Live}, nil, "state: "},
		{"no such state", cairn.Change{Hunt: "oslo", State: "asleep"}, nil, "state: "},
		{"draft can't pause", cairn.Change{Hunt: "oslo", State: cairn.Paused}, nil, "state: "},
		{"more shards than logs", cairn.Change{Create: many}, nil, "shards: is 5; want at most 4"},
		{"more shards than logs, later", cairn.Change{Hunt: "oslo", Shards: 5}, nil, "shards: is 5; want at most 4"},
		{"shards below 1", cairn.Change{Hunt: "oslo", Shards: -1}, nil, "shards: is -1"},
		{"bad hunt", cairn.Change{Create: bad}, nil, "tiles_per_map: is -1"},
		{"name does not fit", cairn.Change{Hunt: "rome", Create: hunt("paris")}, nil, `name: is "paris"`},
		{"the wiring's check", cairn.Change{Create: hunt("atlantis")}, noLand, ""},
		{"the wiring's check of more tiles", cairn.Change{Hunt: "oslo", TilesPerMap: 60_000}, noLand, ""},
		{"tiles below 1", cairn.Change{Hunt: "oslo", TilesPerMap: -1}, nil, "tiles_per_map: is -1"},
		{"tiles of no hunt", cairn.Change{Hunt: "rome", TilesPerMap: 5}, cairn.ErrHuntUnknown, ""},
		{"other keys", cairn.Change{Key: "beef"}, control.ErrKey, ""},
		{"nothing", cairn.Change{Hunt: "oslo"}, nil, "change: sets 0"},
		{"two things", cairn.Change{Hunt: "oslo", State: cairn.Live, Shards: 2}, nil, "change: sets 2"},
		{"too large", cairn.Change{Create: big}, nil, "region.geojson: makes a record of"},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := c.Do(t.Context(), x.ch)
			var field *cairn.FieldError
			switch {
			case x.want != nil && !errors.Is(err, x.want):
				t.Errorf("got %v, want %v", err, x.want)
			case x.want == nil && (!errors.As(err, &field) || !strings.HasPrefix(field.Error(), x.text)):
				t.Errorf("got %v, want a FieldError: %s…", err, x.text)
			}
		})
	}
	if got := len(records(t, s)); got != n {
		t.Errorf("%d records after refusals, want %d", got, n)
	}
}

// TestRace lets two Controls of one store, each with several callers, create
// the same hunts: each name is created once, and every fold agrees.
func TestRace(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	a, b := open(t, s, control.Options{}), open(t, s, control.Options{})
	var mu sync.Mutex
	created := map[cairn.HuntID]int{}
	var wg sync.WaitGroup
	for _, c := range []*control.Control{a, b} {
		for caller := range 2 {
			wg.Go(func() {
				for i := range 8 {
					h := hunt(fmt.Sprint("h", i))
					st, err := c.Do(t.Context(), cairn.Change{Who: fmt.Sprint(caller), Create: h})
					switch {
					case err == nil:
						mu.Lock()
						created[st.Name]++
						mu.Unlock()
						if c.Hunt(h.Name) == nil {
							t.Errorf("%s is created and not known here", h.Name)
						}
					case !errors.Is(err, cairn.ErrHuntExists):
						t.Errorf("create %s: %v", h.Name, err)
					}
				}
			})
		}
	}
	wg.Wait()
	seen := map[cairn.HuntID]int{}
	for _, ch := range records(t, s) {
		seen[ch.Hunt]++
	}
	for i := range 8 {
		id := cairn.HuntID(fmt.Sprint("h", i))
		if created[id] != 1 || seen[id] != 1 {
			t.Errorf("%s was created %d times and recorded %d times, want once", id, created[id], seen[id])
		}
	}
}

// TestRun shows that one Control hears what another does.
func TestRun(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	a, b := open(t, s, control.Options{}), open(t, s, control.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	_, err := a.Do(t.Context(), cairn.Change{Create: hunt("oslo")})
	must(t, err)
	for deadline := time.Now().Add(20 * time.Second); b.Hunt("oslo") == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the other Control has not heard of the hunt after 20s")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: got %v, want context.Canceled", err)
	}
}

func TestOpenWithoutLog(t *testing.T) {
	s, err := filelog.Open("store", filelog.Options{FS: vfs.NewMem()})
	must(t, err)
	defer s.Close()
	if _, err := control.Open(t.Context(), s, control.Options{}); !errors.Is(err, eventlog.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
}

// A lossy store appends, and then says of the first few appends that it can't
// tell, or takes none of them and says the same.
type lossy struct {
	eventlog.Store
	unknown int
	lands   bool
}

type lossyWriter struct {
	eventlog.Writer
	s *lossy
}

func (s *lossy) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	w, err := s.Store.Open(ctx, log)
	return &lossyWriter{w, s}, err
}

func (w *lossyWriter) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	if w.s.unknown == 0 {
		return w.Writer.Append(ctx, body, from)
	}
	w.s.unknown--
	if w.s.lands {
		if _, err := w.Writer.Append(ctx, body, from); err != nil {
			return eventlog.Offset{}, err
		}
	}
	return eventlog.Offset{}, fmt.Errorf("reset: %w", eventlog.ErrUnknown)
}

// TestUnknown settles appends with an unknown outcome by the log: recorded
// once, whether or not they took place.
func TestUnknown(t *testing.T) {
	for _, lands := range []bool{true, false} {
		s := openStore(t, vfs.NewMem())
		c := open(t, &lossy{Store: s, unknown: 3, lands: lands}, control.Options{})
		st, err := c.Do(t.Context(), cairn.Change{Create: hunt("oslo")})
		if err != nil || st.Name != "oslo" {
			t.Errorf("lands %t: got %v and %v, want the hunt", lands, st.Name, err)
		}
		if got := len(records(t, s)); got != 1 {
			t.Errorf("lands %t: %d records, want 1", lands, got)
		}
	}
}
