//go:build unix

package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/veltrix/cairn/internal/lab"
)

// built is the binary that all tests run.
var built struct {
	sync.Once
	dir, path string
	err       error
}

// cairn returns the path of a binary.
func cairn(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "cairn-deploy-"); built.err != nil { //nolint:usetesting // all tests share it
			return
		}
		built.path = filepath.Join(built.dir, "cairn")
		cmd := exec.Command("go", "build", "-C", filepath.Join("..", ".."), "-buildvcs=false", "-o", built.path, "./cmd/cairn")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// A system is what the processes of a deployment find: their stores, and in
// folders what is mounted into them.
type system struct {
	lab    *lab.Lab
	bin    string
	redis  *lab.Redis
	ledger *lab.Postgres
	jwks   string // public keys of whoever signs players' tokens
}

// newSystem starts stores. settings are of Redis.
func newSystem(t *testing.T, settings ...string) *system {
	t.Helper()
	l, err := lab.New(lab.Options{Bin: cairn(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &system{lab: l, bin: cairn(t)}
	if s.redis, err = l.StartRedis(t.Context(), "redis", settings...); err != nil {
		t.Fatal(err)
	}
	if s.ledger, err = l.StartPostgres(t.Context(), "postgres", lab.PostgresOptions{}); err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) }))
	t.Cleanup(keys.Close)
	s.jwks = keys.URL
	return s
}

// folder returns the folder of a volume, the same for all who mount it.
func (s *system) folder(volume string) (string, error) {
	dir := filepath.Join(s.lab.Dir, "volume-"+volume)
	return dir, os.MkdirAll(dir, 0o755)
}

// A command is what a container runs, as its manifest has it.
type command struct {
	name   string
	args   []string
	env    map[string]string
	mounts map[string]string // volumes by where they are mounted
	asked  []probe           // until all are answered 200 it is not ready
}

// A probe is a GET of a path at a port of the container.
type probe struct {
	port int
	path string
}

// listeners are the variables that are addresses of a container's own.
var listeners = []string{"CAIRN_LISTEN", "CAIRN_ADMIN", "CAIRN_PEER", "CAIRN_ADVERTISE"}

// A process is a container that runs.
type process struct {
	*lab.Process
	at map[int]string // addresses by the container's ports
}

// environment returns a command's environment on this machine, where all
// containers share one address: their ports are free ones of the loopback, their
// stores those of the system, and their volumes folders. at says where ports are.
func (s *system) environment(c command) (env []string, at map[int]string, err error) {
	at = map[int]string{}
	here := func(addr string) (string, error) {
		_, p, err := net.SplitHostPort(addr)
		if err != nil {
			return "", err
		}
		n, err := strconv.Atoi(p)
		if err != nil {
			return "", err
		}
		if at[n] == "" {
			free, err := s.lab.FreePort()
			if err != nil {
				return "", err
			}
			at[n] = net.JoinHostPort("127.0.0.1", strconv.Itoa(free))
		}
		return at[n], nil
	}
	for name, value := range c.env {
		switch {
		case slices.Contains(listeners, name) && !strings.Contains(value, "://"):
			if value, err = here(value); err != nil {
				return nil, nil, fmt.Errorf("%s: %s: %w", c.name, name, err)
			}
		case name == "CAIRN_LOG":
			value = s.redis.URL()
		case name == "CAIRN_LEDGER":
			value = s.ledger.DSN()
		case name == "CAIRN_JWKS":
			value = s.jwks
		default:
			if value, err = s.mounted(c, value); err != nil {
				return nil, nil, err
			}
		}
		env = append(env, name+"="+value)
	}
	return env, at, nil
}

// mounted returns a path in a container as it is on this machine.
func (s *system) mounted(c command, path string) (string, error) {
	for mount, volume := range c.mounts {
		if in, ok := strings.CutPrefix(path, mount); ok && (in == "" || in[0] == '/') {
			dir, err := s.folder(volume)
			return dir + in, err
		}
	}
	if filepath.IsAbs(path) {
		return "", fmt.Errorf("%s: %s is on no volume, and the rest is read only", c.name, path)
	}
	return path, nil
}

// start runs a command and waits until all that asks it is content.
func (s *system) start(ctx context.Context, c command) (*process, error) {
	for tries := 0; ; tries++ {
		env, at, err := s.environment(c)
		if err != nil {
			return nil, err
		}
		p := &process{at: at}
		p.Process, err = s.lab.StartProgram(ctx, lab.Program{
			Name: fmt.Sprintf("%s-try-%d", c.name, tries), Argv: append([]string{s.bin}, c.args...), Env: env,
			Ready: func(running *lab.Process) (bool, error) {
				if !running.Running() {
					return false, fmt.Errorf("it has ended: %s", running.Tail(20))
				}
				return p.answers(c.asked)
			},
		})
		// Somebody else on this machine may have taken a port meanwhile.
		if err == nil || tries == 3 || !strings.Contains(err.Error(), "address already in use") {
			return p, err
		}
	}
}

// client does without connections that are kept: processes come and go.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// answers reports whether all probes are answered 200.
func (p *process) answers(probes []probe) (bool, error) {
	for _, ask := range probes {
		if p.at[ask.port] == "" {
			return false, fmt.Errorf("a probe asks port %d, and it listens on %v", ask.port, p.at)
		}
		resp, err := client.Get("http://" + p.at[ask.port] + ask.path)
		if err != nil {
			return false, nil // not yet
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			return false, fmt.Errorf("a probe asks for %s, which is not served", ask.path)
		}
		if resp.StatusCode != http.StatusOK {
			return false, nil
		}
	}
	return true, nil
}

// run runs a command to its end, and returns what it printed.
func (s *system) run(ctx context.Context, c command) (string, error) {
	env, _, err := s.environment(c)
	if err != nil {
		return "", err
	}
	var args []string
	for _, a := range c.args {
		if a, err = s.mounted(c, a); err != nil {
			return "", err
		}
		args = append(args, a)
	}
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("cairn %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// startAll starts the commands of a fleet, all at once, as an engine does.
func (s *system) startAll(ctx context.Context, cs []command) ([]*process, error) {
	ps, errs := make([]*process, len(cs)), make([]error, len(cs))
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() { ps[i], errs[i] = s.start(ctx, c) })
	}
	wg.Wait()
	return ps, errors.Join(errs...)
}

// stopAll ends them as an engine does.
func stopAll(ctx context.Context, ps []*process) error {
	errs := make([]error, len(ps))
	var wg sync.WaitGroup
	for i, p := range ps {
		wg.Go(func() { errs[i] = p.Stop(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
