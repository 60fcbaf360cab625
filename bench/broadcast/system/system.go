//go:build linux

// Package system starts what is measured, each server a process of its own:
// the peers, and our own gateways on a real log in Redis. Whatever it is, it
// has players' addresses, something that publishes deltas to all who watch, and
// processes whose CPU and memory can be read.
package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn/internal/lab"
)

// A Kind is what can be started.
type Kind string

// The kinds.
const (
	Ours       Kind = "ours"
	Floor      Kind = "floor"
	Centrifuge Kind = "centrifuge"
	RabbitMQ   Kind = "rabbitmq"
)

// A Spec says what to start.
type Spec struct {
	Kind    Kind
	Servers int // processes that players connect to; 0 means 1

	WriteDelay time.Duration // centrifuge's; 0 means none
	Shards     int           // ours: logs of claims; 0 means 24, as a hunt has them
	Sweep      time.Duration // ours: the knob; 0 leaves the default, 50ms
	Args       []string      // ours: more flags of each gateway
}

// A Kit starts systems in one lab.
type Kit struct {
	Lab  *lab.Lab
	Self string // the program that runs as a peer when it is told "peer NAME"

	names  int     // given out
	broker *rabbit // nil until it is needed, and then there for all
}

// A System runs. Its methods are for one goroutine.
type System struct {
	Spec
	Targets []string // host:port of each server, for players

	servers []*lab.Process
	beside  []*lab.Process // what stands behind the servers: Redis, RabbitMQ
	lasting bool           // beside is the kit's, and outlives the system
	pub     publisher
	ours    *ours // nil for peers
}

// A publisher tells all servers of a system something.
type publisher interface {
	publish(ctx context.Context) error // one delta, stamped with this moment
	pace(perSecond float64)            // deltas that will come a second
	close() error
}

// Start starts a system and waits until players can connect.
func (k *Kit) Start(ctx context.Context, spec Spec) (_ *System, err error) {
	spec.Servers = max(1, spec.Servers)
	s := &System{Spec: spec}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", spec.Kind, err), s.Stop())
		}
	}()
	switch spec.Kind {
	case Ours:
		err = k.startOurs(ctx, s)
	case Floor, Centrifuge:
		err = k.startPeers(ctx, s, "-write-delay", spec.WriteDelay.String())
	case RabbitMQ:
		err = k.startRabbit(ctx, s)
	default:
		err = fmt.Errorf("there is no such system; want %s, %s, %s or %s", Ours, Floor, Centrifuge, RabbitMQ)
	}
	return s, err
}

// Stop ends what the system began, at once.
func (s *System) Stop() error {
	var errs []error
	if s.pub != nil {
		errs = append(errs, s.pub.close())
	}
	ending := slices.Clone(s.servers)
	if !s.lasting {
		ending = append(ending, s.beside...)
	}
	for _, p := range ending {
		errs = append(errs, p.Kill())
	}
	return errors.Join(errs...)
}

// Publish tells everyone who watches one delta that is stamped with this
// moment.
func (s *System) Publish(ctx context.Context) error { return s.pub.publish(ctx) }

// Pace says how many deltas a second will be published from here on.
func (s *System) Pace(perSecond float64) { s.pub.pace(perSecond) }

// Servers are the processes that players are connected to.
func (s *System) Servers() []int { return pids(s.servers) }

// Beside are the processes behind the servers: Redis or RabbitMQ.
func (s *System) Beside() []int { return pids(s.beside) }

func pids(ps []*lab.Process) (ids []int) {
	for _, p := range ps {
		ids = append(ids, p.Pid())
	}
	return ids
}

// name returns a name that nothing in the lab has yet.
func (k *Kit) name(what string) string {
	k.names++
	return fmt.Sprintf("%s-%d", what, k.names)
}

// startPeers starts the processes of a peer, which say on stdout where they
// are.
func (k *Kit) startPeers(ctx context.Context, s *System, args ...string) error {
	controls := make([]string, s.Spec.Servers)
	s.servers, s.Targets = make([]*lab.Process, len(controls)), make([]string, len(controls))
	names := make([]string, len(controls))
	for i := range names {
		names[i] = k.name(string(s.Kind))
	}
	starts, startCtx := errgroup.WithContext(ctx)
	for i := range controls {
		starts.Go(func() (err error) {
			s.servers[i], err = k.Lab.StartProgram(startCtx, lab.Program{
				Name: names[i], Argv: append([]string{k.Self, "peer", string(s.Kind)}, args...),
				Ready: func(p *lab.Process) (bool, error) {
					text, err := os.ReadFile(p.Log)
					if m := saysWhere.FindSubmatch(text); m != nil {
						s.Targets[i], controls[i] = string(m[1]), string(m[2])
						return true, nil
					}
					return false, err
				},
			})
			return err
		})
	}
	err := starts.Wait()
	s.servers = slices.DeleteFunc(s.servers, func(p *lab.Process) bool { return p == nil })
	if err != nil {
		return err
	}
	s.pub, err = dialControls(ctx, controls)
	return err
}

var saysWhere = regexp.MustCompile(`(?m)^\S+ listen=(\S+) control=(\S+)$`)

// A controls publishes over the control lines of peers.
type controls struct {
	conns []net.Conn
	seq   uint64
}

func dialControls(ctx context.Context, addrs []string) (*controls, error) {
	c := &controls{}
	for _, a := range addrs {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", a)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.conns = append(c.conns, conn)
	}
	return c, nil
}

// publishWithin is how long a server may be too busy to take a delta.
const publishWithin = 10 * time.Second

func (c *controls) publish(context.Context) error {
	c.seq++
	line := append(delta(c.seq, time.Now()), '\n')
	for _, conn := range c.conns {
		conn.SetWriteDeadline(time.Now().Add(publishWithin))
		if _, err := conn.Write(line); err != nil {
			return err
		}
	}
	return nil
}

func (c *controls) pace(float64) {}

func (c *controls) close() error {
	for _, conn := range c.conns {
		conn.Close()
	}
	return nil
}

// write writes a file of a folder.
func write(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
}
