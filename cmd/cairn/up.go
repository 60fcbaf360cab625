package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/load"
)

// shardsMax is how many shards' logs are provisioned.
const shardsMax = 64

type upCmd struct {
	edgeFlags
	Admin      string        `help:"Operators' address: hunts, metrics, health, pprof." default:"127.0.0.1:8081"`
	AdminToken string        `help:"Bearer token for operators; required when --admin is not on loopback." placeholder:"TOKEN"`
	Data       string        `help:"Folder that holds everything: the log, the ledger and the keys." default:"cairn-data" type:"path"`
	Hunt       string        `help:"Hunt to start (YAML or JSON); a known name resumes that hunt. Without it: the hunts there are, or a demo." placeholder:"FILE"`
	Bots       int           `help:"Bots that play along." default:"12"`
	Guests     bool          `help:"Let players sign themselves in." default:"true" negatable:""`
	Retention  time.Duration `help:"How long settled records stay in the log." default:"6h"`
	logFlag
	ledgerFlag
	tracesFlag
}

func (u *upCmd) Run(p *program) error {
	if err := u.check(); err != nil {
		return err
	}
	if err := u.ledgerFlag.check(); err != nil {
		return err
	}
	hunt, err := u.hunt()
	if err != nil {
		return err
	}
	public, err := u.edgeFlags.listen(p.ctx)
	if err != nil {
		return err
	}
	defer closeAll(public)
	admin, err := listen("--admin", u.Admin)
	if err != nil {
		return err
	}
	defer admin.Close()
	g, err := openGame(p.ctx, gameOptions{
		dir: u.Data, redis: u.logFlag, ledger: u.ledgerFlag, adminToken: u.AdminToken, guests: u.Guests, origins: u.Origin, shards: shardsMax, retention: u.Retention, log: p.log,
		limits: u.limits(), admission: u.admission(), traces: u.tracesFlag, edgeTraces: u.edgeTraceFlags,
	})
	if err == nil {
		if err = g.startHunt(p.ctx, hunt); err != nil {
			g.close()
		}
	}
	if p.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // a Ctrl-C while starting up: there is nothing to drain
	}
	if err != nil {
		return err
	}
	u.greet(p, public[0], admin, g)

	// Bots are clients like any other: they come in through the public door.
	ctx, cancel := context.WithCancel(p.ctx)
	var bots sync.WaitGroup
	if u.Bots > 0 {
		bots.Go(func() {
			if err := load.RunBots(ctx, load.BotOptions{Target: "http://" + reachable(public[0]), Bots: u.Bots, Log: p.log}); err != nil && ctx.Err() == nil {
				p.log.Error("bots stopped", "err", err)
			}
		})
	}
	err = g.run(p.ctx, public, admin)
	cancel()
	bots.Wait()
	return err
}

func (u *upCmd) check() error {
	switch {
	case u.Bots < 0 || u.Bots > 10_000:
		return usagef("--bots: is %d; want 0 to 10000", u.Bots)
	case u.Bots > 0 && !u.Guests:
		return usagef("--bots: %d bots sign in as guests, which --no-guests forbids; want --bots 0", u.Bots)
	case u.Retention < retentionMin:
		return usagef("--retention: is %v; want %v or more: a map may be open for an hour, and its holders are known ten minutes longer", u.Retention, retentionMin)
	}
	if err := u.edgeFlags.check(); err != nil {
		return err
	}
	return checkAdmin(u.Admin, u.AdminToken)
}

// checkAdmin refuses operators' listeners that anybody could reach.
func checkAdmin(addr, token string) error {
	host, _, err := net.SplitHostPort(addr)
	if err == nil && !isLoopback(host) && token == "" {
		return usagef("--admin: %s can be reached from other machines; want --admin-token as well, such as %s", addr, rand.Text())
	}
	return nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// listen opens a listener, and says what to do if it can't.
func listen(flag, addr string) (net.Listener, error) {
	var ln net.Listener
	err := listening(flag, addr, func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	})
	return ln, err
}

// listening calls open for the address of a flag, and says what to do if either
// is no good.
func listening(flag, addr string, open func() error) error {
	if _, port, err := net.SplitHostPort(addr); err != nil {
		return usagef("%s: is %q; want HOST:PORT, such as 127.0.0.1:8080", flag, addr)
	} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return usagef("%s: port is %q; want 0 to 65535", flag, port)
	}
	err := open()
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %s is in use; free it, or choose another, such as %s 127.0.0.1:0", flag, addr, flag)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

// reachable returns an address at which this machine reaches a listener.
func reachable(ln net.Listener) string {
	a := ln.Addr().(*net.TCPAddr)
	if a.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
	}
	return a.String()
}

func (u *upCmd) greet(p *program, public, admin net.Listener, g *game) {
	names := make([]string, 0, 4)
	for _, h := range g.control.Hunts() {
		if h.State == cairn.Live {
			names = append(names, string(h.Name))
		}
	}
	fmt.Fprintf(p.stdout, `
  Cairn %s: the hunt is on (%s)

    play      http://%s/
    operate   http://%s/readyz   (cairn hunt list, /metrics)
    data      %s

  Ctrl-C drains and stops; nothing that was acknowledged is lost.

`, version, strings.Join(names, ", "), reachable(public), reachable(admin), u.Data)
}
