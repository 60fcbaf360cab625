//go:build unix

// Command cluster runs the production form of Cairn on one machine: a Redis
// Cluster with replicas, PostgreSQL, and each role of cairn as processes of
// their own on the loopback, behind one status screen from which they can be
// killed, paused and started again. See docs/cluster.md.
//
//	go run ./bench/cluster up
//	go run ./bench/cluster down
//
// It stands beside the benchmarks, not in cmd: it is for who works on Cairn,
// and must not be a part of what is shipped.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/veltrix/cairn/internal/lab"
)

type cli struct {
	Up   upCmd   `cmd:"" help:"Start everything, and show how it does until told to quit."`
	Down downCmd `cmd:"" help:"End everything that up started, whether its launcher runs still or not."`
}

// A stateFlag is where up says what it started, for down.
type stateFlag struct {
	State string `help:"File that says what runs; another one makes room for another cluster." default:"bench/out/cluster.json" type:"path" placeholder:"FILE"`
}

type upCmd struct {
	stateFlag
	Primaries    int           `help:"Redis primaries." default:"3"`
	Replicas     int           `help:"Replicas of each." default:"1"`
	NodeTimeout  time.Duration `help:"After which a silent Redis node is taken for dead." default:"2s"`
	Generators   int           `help:"Processes of the role generator." default:"2"`
	Claims       int           `help:"Processes of the role claims." default:"2"`
	Gateways     int           `help:"Processes of the role gateway." default:"2"`
	Leaderboards int           `help:"Processes of the role leaderboard." default:"2"`
	Rewards      int           `help:"Processes of the role rewards." default:"2"`
	Ack          string        `help:"When an append is acknowledged." enum:"auto,primary,replicas,fsync" default:"auto"`
	Listen       string        `help:"Players' address of the first gateway." default:"127.0.0.1:8080"`
	Hunt         string        `help:"Hunt to start (YAML or JSON). Without it: a demo." type:"existingfile" placeholder:"FILE"`
	Shards       int           `help:"Shards of the demo hunt." default:"24"`
	Bots         int           `help:"Bots that play, spread over the gateways." default:"24"`
	For          time.Duration `help:"Quit by itself after this long; then what is left is verified." placeholder:"D"`
	JSON         bool          `name:"json" help:"Print a line of JSON a second instead of a screen."`
	Keep         bool          `help:"Leave the folder with all data and logs."`
	Bin          string        `help:"A cairn binary; without it one is built." type:"existingfile" placeholder:"FILE"`
}

type downCmd struct {
	stateFlag
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal drains, a second one kills
	var c cli
	k := kong.Parse(&c, kong.Name("cluster"), kong.Description("The production form of Cairn on one machine."),
		kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// demo is the hunt that runs when none is given.
const demo = `name: cluster-demo
region: {geohash: u4}
tiles_per_map: 400
lifetime: 20s
shards: %d
puzzles: {tap: 3, cipher: 1, lights: 1, echo: 1, odd: 1}
reward: {min: 100, max: 5000, budget: 1000000000000}
`

// spec is the fleet that the flags ask for.
func (u upCmd) spec() (lab.Spec, error) {
	hunt := []byte(fmt.Sprintf(demo, u.Shards))
	if u.Hunt != "" {
		var err error
		if hunt, err = os.ReadFile(u.Hunt); err != nil {
			return lab.Spec{}, err
		}
	}
	counts := map[string]*int{"--generators": &u.Generators, "--claims": &u.Claims, "--leaderboards": &u.Leaderboards, "--rewards": &u.Rewards}
	for flag, n := range counts {
		if *n < 0 || *n > 50 {
			return lab.Spec{}, fmt.Errorf("%s: is %d; want 0 to 50", flag, *n)
		}
		if *n == 0 {
			*n = -1 // none, to a Spec
		}
	}
	switch {
	case u.Gateways < 1 || u.Gateways > 50:
		return lab.Spec{}, fmt.Errorf("--gateways: is %d; want 1 to 50", u.Gateways)
	case u.Primaries < 1 || u.Primaries > 50:
		return lab.Spec{}, fmt.Errorf("--primaries: is %d; want 1 to 50", u.Primaries)
	case u.Replicas < 0 || u.Replicas > 5:
		return lab.Spec{}, fmt.Errorf("--replicas: is %d; want 0 to 5", u.Replicas)
	case u.Ack == "replicas" && u.Replicas == 0:
		return lab.Spec{}, errors.New("--ack: replicas asks for --replicas 1 or more")
	case u.Bots < 0 || u.Bots > 10_000:
		return lab.Spec{}, fmt.Errorf("--bots: is %d; want 0 to 10000", u.Bots)
	}
	return lab.Spec{
		Generators: u.Generators, Claims: u.Claims, Gateways: u.Gateways, Leaderboards: u.Leaderboards, Rewards: u.Rewards,
		Redis: lab.ClusterOptions{Primaries: u.Primaries, Replicas: u.Replicas, NodeTimeout: u.NodeTimeout},
		Ack:   u.Ack, Hunts: []string{string(hunt)}, FirstGateway: u.Listen,
	}, nil
}
