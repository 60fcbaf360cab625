//go:build unix

package endtoend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// A Socketed is what came of claims on sockets, on one system.
type Socketed struct {
	System string  `json:"system"`
	Rate   float64 `json:"claims_per_s"` // answered, with all windows full
	P50    float64 `json:"p50_us"`       // of those
	P99    float64 `json:"p99_us"`
	Won    float64 `json:"won_share"`

	ServerCPU float64 `json:"server_cpu_us"` // a claim: of all processes but the players'
	ClientCPU float64 `json:"client_cpu_us"`

	PacedRate float64 `json:"paced_claims_per_s"` // at the rate that is the same for all
	PacedP50  float64 `json:"paced_p50_us"`       // from when a claim was due
	PacedP99  float64 `json:"paced_p99_us"`
}

// String returns what there is to say while more is measured.
func (m *Socketed) String() string {
	return fmt.Sprintf("%s: %.0f claims/s, %.1f µs of CPU each; paced %.0f/s p50 %.2f ms, p99 %.2f ms",
		m.System, m.Rate, m.ServerCPU+m.ClientCPU, m.PacedRate, m.PacedP50/1000, m.PacedP99/1000)
}

// sockets measures a system by claims alone.
func (b *bench) sockets(ctx context.Context, name string) (_ *Socketed, err error) {
	s, err := b.start(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	c := newCaller(s.addr)
	defer c.close()
	tokens, err := c.signIn(ctx, b.opts.Players)
	if err != nil {
		return nil, err
	}
	players := make([]*socket, len(tokens))
	for i, token := range tokens {
		if players[i], err = dial(ctx, s.addr, hunt, token, b.opts.Window); err != nil {
			return nil, err
		}
		defer players[i].conn.Close()
	}
	if err := s.await(ctx); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		for _, p := range players {
			p.conn.Close() // who waits for an outcome hears that it is over
		}
	})
	defer stop()
	m := &Socketed{System: name}
	// Connections, caches and maps are warm when it counts.
	if _, err := b.phase(s, players, min(b.opts.Flood, time.Second), 0); err != nil {
		return nil, err
	}
	before, own := cpuOf(s), cpuSelf()
	sum, err := b.phase(s, players, b.opts.Flood, 0)
	if err != nil {
		return nil, err
	}
	n := float64(sum.answered)
	m.ServerCPU, m.ClientCPU = (cpuOf(s)-before)*1e6/n, (cpuSelf()-own)*1e6/n
	m.Rate, m.P50, m.P99, m.Won = n/sum.took.Seconds(), sum.latency.us(50), sum.latency.us(99), float64(sum.won)/n
	if sum, err = b.phase(s, players, b.opts.Paced, b.opts.Rate); err != nil {
		return nil, err
	}
	m.PacedRate, m.PacedP50, m.PacedP99 = float64(sum.answered)/sum.took.Seconds(), sum.latency.us(50), sum.latency.us(99)
	for _, p := range players {
		p.conn.Close()
	}
	won, err := winners(players)
	if err != nil {
		return nil, err
	}
	return m, s.check(ctx, won)
}

// A phase is what all players did in some time.
type phase struct {
	tally
	took time.Duration
}

// phase has players claim for a time, as fast as they can or at a rate.
func (b *bench) phase(s *system, players []*socket, d time.Duration, rate float64) (*phase, error) {
	start := time.Now()
	until := start.Add(d)
	for _, p := range players {
		p.tally = tally{wins: p.wins}
	}
	err := each(len(players), len(players), func(i int) error {
		r := rand.New(rand.NewPCG(uint64(i), uint64(start.UnixNano())))
		draw := func(now time.Time) target { return s.draw(now, r, b.opts.Tiles) }
		if rate == 0 {
			return players[i].flood(until, draw)
		}
		every := time.Duration(float64(len(players)) / rate * float64(time.Second))
		return players[i].pace(start.Add(every*time.Duration(i)/time.Duration(len(players))), until, every, draw)
	})
	sum := &phase{took: time.Since(start)}
	for _, p := range players {
		sum.answered += p.answered
		sum.won += p.won
		sum.latency.add(p.latency)
		sum.other += p.other
	}
	if err == nil && sum.other > 0 {
		err = fmt.Errorf("%d of %d claims were neither won nor gone", sum.other, sum.answered)
	}
	if err == nil && sum.answered == 0 {
		err = errors.New("no claim was answered")
	}
	return sum, err
}

// winners returns how many tiles were won. Two who heard of one tile that they
// had won it are an error.
func winners(players []*socket) (int, error) {
	of := map[target]int{}
	for i, p := range players {
		for _, t := range p.wins {
			if j, held := of[t]; held && j != i {
				return 0, fmt.Errorf("tile %d of map %d was won by two players", t.tile, t.tick)
			}
			of[t] = i
		}
	}
	return len(of), nil
}

// cpuOf returns how long a system's processes, and those that they started,
// have had a core, in seconds.
func cpuOf(s *system) (sum float64) {
	for _, p := range s.procs {
		sum += cpu(fmt.Sprint(p.Pid()))
	}
	return sum
}

func cpuSelf() float64 { return cpu("self") }

// ticksASecond is USER_HZ: what proc(5) counts in, on every Linux.
const ticksASecond = 100

// cpu returns utime and stime of a process and of those it waited for, or 0
// where there is no /proc.
func cpu(pid string) float64 {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name, which may have spaces
	f := strings.Fields(rest)
	if len(f) < 15 {
		return 0
	}
	sum := 0.0
	for _, s := range f[11:15] {
		var v float64
		_, _ = fmt.Sscan(s, &v) // numbers: proc(5)
		sum += v
	}
	return sum / ticksASecond
}
