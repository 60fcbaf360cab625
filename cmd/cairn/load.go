package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/load"
	"github.com/veltrix/cairn/internal/load/crowd"
)

type loadCmd struct {
	Target      []string      `help:"Base URLs of the public API: players use the first, WebSockets all of them in turn." default:"http://127.0.0.1:8080"`
	Hunt        string        `help:"Hunt to play. Without it: the first that is live." placeholder:"NAME"`
	Connections int           `help:"WebSockets that watch: up to a million, in as many processes as the limit of open files makes it." default:"10"`
	ConnectRate float64       `help:"WebSockets to connect a second. Without it: as fast as it goes."`
	Codec       string        `help:"What they speak: json or proto." default:"json"`
	Regions     []string      `help:"Geohashes that they watch. Without it: the world." placeholder:"GEOHASH"`
	Stalled     float64       `help:"Percent of them that stop reading once all are connected." placeholder:"PERCENT"`
	Players     int           `help:"Players that claim." default:"200"`
	Rate        float64       `help:"Attempts a second, all players together." default:"500"`
	For         time.Duration `help:"For how long." default:"10s"`
	Crowd       int           `help:"Players that try each tile at once." default:"1"`
	JSON        bool          `name:"json" help:"Print the report as JSON."`
}

func (l loadCmd) Run(p *program) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	opts := load.Options{
		Targets: l.Target, Hunt: cairn.HuntID(l.Hunt), Connections: l.Connections, ConnectRate: l.ConnectRate, Codec: l.Codec,
		Regions: l.Regions, Stalled: l.Stalled, Worker: []string{self, "load-worker"}, Players: l.Players,
		Rate: l.Rate, For: l.For, Crowd: l.Crowd, Log: p.log,
	}
	var done func()
	opts.Progress, done = l.progress(p)
	report, err := load.Run(p.ctx, opts)
	done()
	var field *cairn.FieldError
	if errors.As(err, &field) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if l.JSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = report.WriteText(p.stdout)
	}
	if err == nil && report.Failed() {
		return errors.New("attempts failed, or sockets missed something: see the report")
	}
	return err
}

// progress returns what shows how far the load is: a bar on a terminal, a line
// every ten seconds elsewhere.
func (l loadCmd) progress(p *program) (show func(load.Progress), done func()) {
	if f, ok := p.stderr.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		n := 0
		return func(s load.Progress) {
			if n++; n%10 == 0 {
				fmt.Fprintln(p.stderr, describe(s))
			}
		}, func() {}
	}
	var now atomic.Pointer[load.Progress] // written by the load, read by the bar's own goroutine
	now.Store(&load.Progress{For: l.For})
	bars := mpb.New(mpb.WithOutput(p.stderr), mpb.WithWidth(24))
	bar := bars.AddBar(int64(l.For/time.Second), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + describe(*now.Load()) })))
	show = func(s load.Progress) {
		now.Store(&s)
		bar.SetCurrent(int64(s.Elapsed / time.Second))
	}
	return show, func() {
		bar.Abort(false) // a load that was cut short must not wait for its bar
		bars.Wait()
	}
}

func describe(s load.Progress) string {
	return fmt.Sprintf("%3.0fs of %v  %d answered, %d won, %d failed, p99 %.1f ms, %d sockets, %d deliveries",
		s.Elapsed.Seconds(), s.For, s.Attempts, s.Won, s.Failed, s.P99.Seconds()*1000, s.Connected, s.Deliveries)
}

// A loadWorkerCmd carries a part of the WebSockets of a load, which starts it
// and ends it by closing its input.
type loadWorkerCmd struct{}

func (loadWorkerCmd) Run(p *program) error { return crowd.Work(os.Stdin, p.stdout) }
