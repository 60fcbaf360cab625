//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/veltrix/cairn/internal/lab"
	"github.com/veltrix/cairn/internal/load"
)

// Run starts everything, shows it, and ends it in good order.
func (u upCmd) Run(ctx context.Context) (err error) {
	spec, err := u.spec()
	if err != nil {
		return err
	}
	if old, err := readState(u.State); err == nil && old.Launcher.Alive() {
		return fmt.Errorf("a cluster runs already, started by process %d: make cluster-down ends it, --state FILE makes room for another", old.Launcher.Pid)
	} else if err == nil {
		if n, err := lab.Sweep(old.Dir); err != nil { // one whose launcher crashed
			return err
		} else if n > 0 {
			u.say("ended %d processes that a launcher left behind", n)
		}
	} else if !errors.Is(err, errNone) {
		return err
	}
	l, err := lab.New(lab.Options{Bin: u.Bin, Keep: u.Keep})
	if err != nil {
		return err
	}
	st := state{Launcher: lab.Self(), Dir: l.Dir, Keep: u.Keep}
	defer func() {
		err = errors.Join(err, l.Close(), os.Remove(u.State))
		if u.Keep {
			u.say("data and logs are in %s", l.Dir)
		}
	}()
	if err := st.write(u.State); err != nil {
		return err
	}
	u.say("starting %d redis-server, PostgreSQL and %d processes of cairn …", u.Primaries*(1+u.Replicas), max(0, u.Generators)+max(0, u.Claims)+u.Gateways+max(0, u.Leaderboards)+max(0, u.Rewards))
	began := time.Now()
	f, err := l.StartFleet(ctx, spec)
	if ctx.Err() != nil {
		return nil // told to end before it began
	}
	if err != nil {
		return err
	}
	st.Log, st.Ledger, st.Play = f.Redis.URL(), f.Ledger.DSN(), play(f)
	if err := st.write(u.State); err != nil {
		return err
	}
	u.say("ready after %.1f s: %s", time.Since(began).Seconds(), st.Play[0])
	if err := u.watch(ctx, f); err != nil {
		return err
	}
	return u.end(f)
}

// say prints a line for people.
func (u upCmd) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// play returns the gateways' URLs.
func play(f *lab.Fleet) []string {
	var urls []string
	for _, g := range f.Roles("gateway") {
		urls = append(urls, "http://"+g.Listen+"/")
	}
	return urls
}

// watch has the bots play and shows what happens until the user quits, ctx ends
// or the time is over.
func (u upCmd) watch(ctx context.Context, f *lab.Fleet) error {
	if u.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, u.For)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	log, err := os.Create(filepath.Join(f.Lab.Dir, "bots.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	gateways := f.Roles("gateway")
	for i, g := range gateways {
		n := u.Bots*(i+1)/len(gateways) - u.Bots*i/len(gateways)
		if n == 0 {
			continue
		}
		work.Go(func() {
			opts := load.BotOptions{Target: "http://" + g.Listen, Bots: n, Log: slog.New(slog.NewTextHandler(log, nil)).With("gateway", g.Name)}
			// A gateway that is away takes its bots with it; they come back.
			for ctx.Err() == nil {
				if err := load.RunBots(ctx, opts); err != nil && ctx.Err() == nil {
					opts.Log.Error("bots stopped", "err", err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		})
	}
	w := newWatcher(f)
	work.Go(func() { w.run(ctx) })
	switch {
	case u.JSON:
		return lines(ctx, w, func(s *status) error { return json.NewEncoder(os.Stdout).Encode(s) })
	case !term.IsTerminal(int(os.Stdout.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())):
		return lines(ctx, w, func(s *status) error {
			_, err := fmt.Println(s.line())
			return err
		})
	}
	return screen(ctx, w, f)
}

// lines prints what there is once a second until ctx ends.
func lines(ctx context.Context, w *watcher, show func(*status) error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if s := w.status(); s != nil {
			if err := show(s); err != nil {
				return err
			}
		}
	}
}

// end drains the roles. A cluster that ran for a given time is verified as
// well, as it stands then.
func (u upCmd) end(f *lab.Fleet) error {
	u.say("draining …")
	ctx, cancel := context.WithTimeout(context.Background(), drainWithin*3/4)
	defer cancel()
	for _, p := range f.Lab.Processes() {
		if err := p.Continue(); err != nil { // so that all can end in good order
			return err
		}
	}
	err := f.Drain(ctx)
	if u.For > 0 {
		report, verr := f.Verify(ctx)
		if u.JSON {
			os.Stdout.Write(report)
		}
		if verr == nil {
			u.say("verified: every invariant holds")
		}
		err = errors.Join(err, verr)
	}
	return err
}
