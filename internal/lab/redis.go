//go:build unix

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// A Redis is one redis-server.
type Redis struct {
	*Process
	Addr string // host:port

	mu     sync.Mutex
	client rueidis.Client // nil until it is needed
}

// StartRedis starts a server on a free port, with an append-only file synced
// every second, and waits until it answers. settings follow, and override, such
// as "--maxmemory", "10mb".
func (l *Lab) StartRedis(ctx context.Context, name string, settings ...string) (*Redis, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("lab: no redis-server on the PATH: install it (Debian: apt-get install redis-server)")
	}
	dir, err := l.folder(name)
	if err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		argv := append([]string{
			bin, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
			"--appendonly", "yes", "--appendfsync", "everysec", "--cluster-config-file", "nodes.conf",
		}, settings...)
		r := &Redis{Process: l.process(name, argv), Addr: loopback(port)}
		r.Log = filepath.Join(dir, "log")
		err = r.Process.start()
		if err == nil {
			err = r.answers(ctx)
		}
		if err == nil {
			l.onClose(r.disconnect)
			return r, nil
		}
		if kill := r.Process.Kill(); kill != nil {
			return nil, errors.Join(err, kill)
		}
		l.forget(r.Process)
		if tries == portTries || !portInUse(r.Tail(tailLines)) {
			return nil, err
		}
	}
}

// answers waits until the server has read its data and answers.
func (r *Redis) answers(ctx context.Context) error {
	return r.until(ctx, "answered a PING", func() (bool, error) {
		c, err := net.DialTimeout("tcp", r.Addr, time.Second)
		if err != nil {
			return false, nil
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprint(c, "PING\r\n")
		reply := make([]byte, 64)
		n, err := c.Read(reply)
		// -NOAUTH is an answer as well: it has loaded its data.
		return err == nil && (strings.HasPrefix(string(reply[:n]), "+PONG") || strings.HasPrefix(string(reply[:n]), "-NOAUTH")), nil
	})
}

// URL returns the server's URL.
func (r *Redis) URL() string { return "redis://" + r.Addr }

// Restart starts the server anew, on its port and the data that it left, and
// waits until it answers. One that runs is killed first.
func (r *Redis) Restart(ctx context.Context) error {
	if err := r.Kill(); err != nil {
		return err
	}
	if err := r.Process.start(); err != nil {
		return err
	}
	return r.answers(ctx)
}

// Kill ends the server, as kill -9 does.
func (r *Redis) Kill() error {
	r.disconnect()
	return r.Process.Kill()
}

// Stop ends the server in good order: its append-only file is synced first.
func (r *Redis) Stop(ctx context.Context) error {
	r.disconnect()
	return r.Process.Stop(ctx)
}

func (r *Redis) disconnect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		r.client.Close()
		r.client = nil
	}
}

// connected returns a connection to this very server, whatever its part in a
// Cluster.
func (r *Redis) connected() (rueidis.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == nil {
		c, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{r.Addr}, ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1, DisableRetry: true,
			AlwaysRESP2: true, // RESP3 has INFO and CLUSTER NODES as verbatim strings, which begin with their kind
			Dialer:      net.Dialer{Timeout: time.Second}, ConnWriteTimeout: patience, ClientSetInfo: rueidis.DisableClientSetInfo,
			ReadBufferEachConn: 16 << 10, WriteBufferEachConn: 16 << 10, RingScaleEachConn: 4,
		})
		if err != nil {
			return nil, fmt.Errorf("lab: %s: %w", r.Name, err)
		}
		r.client = c
	}
	return r.client, nil
}

// Do sends one command to this very server, and returns its reply. An error is
// of the network or of the server; a nil reply is none.
func (r *Redis) Do(ctx context.Context, args ...string) (rueidis.RedisResult, error) {
	c, err := r.connected()
	if err != nil {
		return rueidis.RedisResult{}, err
	}
	reply := c.Do(ctx, c.B().Arbitrary(args...).Build())
	if err := reply.Error(); err != nil && !rueidis.IsRedisNil(err) {
		return reply, fmt.Errorf("lab: %s: %s: %w", r.Name, strings.Join(args[:min(2, len(args))], " "), err)
	}
	return reply, nil
}

// Info returns the fields of sections of INFO, or of the usual ones.
func (r *Redis) Info(ctx context.Context, sections ...string) (map[string]string, error) {
	reply, err := r.Do(ctx, append([]string{"INFO"}, sections...)...)
	if err != nil {
		return nil, err
	}
	text, err := reply.ToString()
	return fields(text), err
}

// fields reads the lines of INFO and CLUSTER INFO.
func fields(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[k] = v
		}
	}
	return m
}

// Primary reports whether the server takes writes: it is no replica.
func (r *Redis) Primary(ctx context.Context) (bool, error) {
	info, err := r.Info(ctx, "replication")
	return info["role"] == "master", err
}

// InStep reports whether the server is a primary, or a replica whose link to
// its primary is up and that has all of its data.
func (r *Redis) InStep(ctx context.Context) (bool, error) {
	info, err := r.Info(ctx, "replication")
	return info["role"] == "master" || info["master_link_status"] == "up" && info["master_sync_in_progress"] == "0", err
}

// portTries is how often a server is given another port when the one it was
// given is taken before it has it.
const portTries = 5

// portInUse reports whether a log says that a port was taken.
func portInUse(log string) bool {
	return slices.ContainsFunc([]string{"already in use", "is in use", "in use;"}, func(s string) bool { return strings.Contains(log, s) })
}

// forget drops a process that never came to life.
func (l *Lab) forget(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = slices.DeleteFunc(l.processes, func(q *Process) bool { return q == p })
}
