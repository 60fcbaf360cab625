//go:build linux

package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/veltrix/cairn/bench/broadcast/peers"
	"github.com/veltrix/cairn/internal/lab"
)

// A rabbit is a RabbitMQ broker with its epmd, the name server of Erlang, both
// on free ports of the loopback, with their data and their cookie in the lab's
// folder.
type rabbit struct {
	url  string
	epmd *lab.Process
	beam *lab.Process
}

// debianRabbit is the server itself; what Debian has on the PATH changes the
// user first, who could not read the lab's folder.
const debianRabbit = "/usr/lib/rabbitmq/bin/rabbitmq-server"

func rabbitBin() (string, error) {
	if _, err := os.Stat(debianRabbit); err == nil {
		return debianRabbit, nil
	}
	bin, err := exec.LookPath("rabbitmq-server")
	if err != nil {
		return "", errors.New("no rabbitmq-server: install it (scripts/setup.sh rabbitmq)")
	}
	return bin, nil
}

// startBroker starts RabbitMQ, once a kit.
func (k *Kit) startBroker(ctx context.Context) error {
	if k.broker != nil {
		return nil
	}
	bin, err := rabbitBin()
	if err != nil {
		return err
	}
	epmdBin, err := exec.LookPath("epmd")
	if err != nil {
		return errors.New("no epmd, which comes with Erlang: install RabbitMQ (scripts/setup.sh rabbitmq)")
	}
	dir, err := k.Lab.Folder("rabbitmq")
	if err != nil {
		return err
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = k.Lab.FreePort(); err != nil {
			return err
		}
	}
	b := &rabbit{url: fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", ports[0])}
	if b.epmd, err = k.Lab.StartProgram(ctx, lab.Program{
		Name: "epmd", Argv: []string{epmdBin, "-port", strconv.Itoa(ports[2]), "-address", "127.0.0.1"},
		Ready: func(*lab.Process) (bool, error) { return listens(ports[2]), nil },
	}); err != nil {
		return err
	}
	if err := errors.Join(
		write(dir, "rabbitmq.conf", fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\nlog.console = true\nlog.console.level = warning\nlog.file = false\n", ports[0])),
		write(dir, "enabled_plugins", "[].\n"), write(dir, "env.conf", ""),
	); err != nil {
		return err
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	b.beam, err = k.Lab.StartProgram(ctx, lab.Program{
		Name: "rabbitmq", Argv: []string{bin},
		Env: []string{
			"HOME=" + dir, // of the cookie
			"RABBITMQ_NODENAME=cairn@localhost", "RABBITMQ_CONFIG_FILE=" + at("rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE=" + at("env.conf"),
			"RABBITMQ_ENABLED_PLUGINS_FILE=" + at("enabled_plugins"), "RABBITMQ_MNESIA_BASE=" + at("mnesia"), "RABBITMQ_LOG_BASE=" + at("log"),
			"RABBITMQ_GENERATED_CONFIG_DIR=" + at("generated"), "RABBITMQ_PID_FILE=" + at("pid"),
			"RABBITMQ_DIST_PORT=" + strconv.Itoa(ports[1]), "ERL_EPMD_PORT=" + strconv.Itoa(ports[2]), "ERL_EPMD_ADDRESS=127.0.0.1",
			"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
			"RUNNING_UNDER_SYSTEMD=1", // the script becomes the server, and does not wait for one
		},
		Ready: func(*lab.Process) (bool, error) {
			c, err := amqp.Dial(b.url)
			if err != nil {
				return false, nil // it still starts
			}
			return true, c.Close()
		},
	})
	k.broker = b
	return err
}

func listens(port int) bool {
	c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// startRabbit starts gateways that follow the broker.
func (k *Kit) startRabbit(ctx context.Context, s *System) error {
	if err := k.startBroker(ctx); err != nil {
		return err
	}
	s.beside, s.lasting = []*lab.Process{k.broker.beam}, true
	if err := k.startPeers(ctx, s, "-amqp", k.broker.url); err != nil {
		return err
	}
	if err := s.pub.close(); err != nil {
		return err
	}
	pub, err := openExchange(k.broker.url)
	if err != nil {
		s.pub = nil
		return err
	}
	s.pub = pub
	return nil
}

// An exchange publishes to the broker.
type exchange struct {
	conn *amqp.Connection
	ch   *amqp.Channel
	seq  uint64
}

func openExchange(url string) (*exchange, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		err = peers.DeclareExchange(ch)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &exchange{conn: conn, ch: ch}, nil
}

func (e *exchange) publish(ctx context.Context) error {
	e.seq++
	return e.ch.PublishWithContext(ctx, peers.Exchange, "", false, false, amqp.Publishing{ContentType: "application/json", Body: delta(e.seq, time.Now())})
}

func (e *exchange) pace(float64) {}

func (e *exchange) close() error { return e.conn.Close() }
