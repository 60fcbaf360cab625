// Package peers is what the Broadcast Layer is measured against: other ways to
// tell many WebSockets the same thing, each a server of its own.
//
//   - floor: as little as can be. One frame, made once, is written to every
//     socket by as many loops as there are cores. No protocol, no state.
//   - centrifuge: the library behind Centrifugo, one node, one channel, its
//     broker in memory, tuned for many idle connections.
//   - rabbitmq: a fan-out exchange before a gateway as one writes it first: a
//     channel and a goroutine a connection.
//
// A server runs in a process of its own ([Main]), so that its CPU and memory
// are its own, and is told what to publish over a TCP connection on the
// loopback: a payload a line. The gateway of RabbitMQ hears it from there.
package peers

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Names are the servers that Main can be.
var Names = []string{"floor", "centrifuge", "rabbitmq"}

// LineMax bounds a payload, in bytes.
const LineMax = 64 << 10

// A server tells everyone who is connected what is published.
type server interface {
	http.Handler // upgrades a connection

	// publish tells everyone. It may keep payload.
	publish(payload []byte) error

	// close ends what the server began. Connections may stay open: the process
	// ends next.
	close() error
}

// options are the flags of a server.
type options struct {
	writeDelay time.Duration
	amqp       string
}

// Main runs the server with that name until the process is interrupted. On out
// it says where it can be reached:
//
//	floor listen=127.0.0.1:40001 control=127.0.0.1:40002
func Main(name string, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.DurationVar(&o.writeDelay, "write-delay", 0, "how long centrifuge gathers messages before it writes them; 0 means that it does not")
	f.StringVar(&o.amqp, "amqp", "", "URL of the RabbitMQ that the gateway follows")
	if err := f.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := open(name, o)
	if err != nil {
		return err
	}
	return errors.Join(run(ctx, name, s, out), s.close())
}

func open(name string, o options) (server, error) {
	switch name {
	case "floor":
		return newFloor(), nil
	case "centrifuge":
		return newCentrifuge(o.writeDelay)
	case "rabbitmq":
		return newNaive(o.amqp)
	}
	return nil, fmt.Errorf("peers: there is no %q; want one of %s", name, strings.Join(Names, ", "))
}

// run serves players and the control line until ctx ends.
func run(ctx context.Context, name string, s server, out io.Writer) error {
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		public.Close()
		return err
	}
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 2)
	var loops sync.WaitGroup
	loops.Go(func() { failed <- web.Serve(public) })
	loops.Go(func() { failed <- follow(ctx, control, s) })
	if _, err := fmt.Fprintf(out, "%s listen=%s control=%s\n", name, public.Addr(), control.Addr()); err != nil {
		return err
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	web.Close()
	control.Close()
	loops.Wait()
	return err
}

// follow publishes what the control line says. One who publishes at a time.
func follow(ctx context.Context, control net.Listener, s server) error {
	for {
		c, err := control.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		err = obey(c, s)
		stop()
		c.Close()
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// obey publishes each line of c.
func obey(c io.Reader, s server) error {
	lines := bufio.NewScanner(c)
	lines.Buffer(make([]byte, 0, 4096), LineMax)
	for lines.Scan() {
		if err := s.publish(append([]byte(nil), lines.Bytes()...)); err != nil {
			return err
		}
	}
	return lines.Err()
}
