//go:build unix

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Build returns the path of a cairn binary: that of the options, or one that it
// builds, once a lab, from the module that the working folder is in.
func (l *Lab) Build(ctx context.Context) (string, error) {
	l.build.Lock()
	defer l.build.Unlock()
	if l.bin != "" {
		return l.bin, nil
	}
	bin := filepath.Join(l.Dir, "cairn")
	args := append([]string{"build", "-buildvcs=false"}, l.opts.BuildFlags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", bin, cairnPackage)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("lab: go build %s: %w\n%s", cairnPackage, err, lastLines(out))
	}
	l.bin = bin
	return bin, nil
}

const cairnPackage = "github.com/veltrix/cairn/cmd/cairn"

// A Role is one process of cairn, of one of the roles. It keeps its name and
// its addresses when it is started again.
type Role struct {
	*Process
	Role                string // generator, claims, gateway, leaderboard or rewards
	Listen, Peer, Admin string // host:port, or empty if the role has none
}

// addressFlags are the listeners that a role has.
var addressFlags = map[string][]string{
	"generator":   {"--admin"},
	"claims":      {"--peer", "--admin"},
	"gateway":     {"--listen", "--admin"},
	"leaderboard": {"--peer", "--admin"},
	"rewards":     {"--admin"},
}

// StartRole starts a role under a name and waits until it says that it can be
// reached, in the one line
//
//	claims claims-1 peer=127.0.0.1:9401 admin=127.0.0.1:9402
//
// that every role prints. Addresses that args do not give are free ports.
func (l *Lab) StartRole(ctx context.Context, role, name string, args ...string) (*Role, error) {
	bin, err := l.Build(ctx)
	if err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		argv := append([]string{bin, role, "--name", name}, args...)
		for _, flag := range addressFlags[role] {
			if slices.ContainsFunc(args, func(a string) bool { return a == flag || strings.HasPrefix(a, flag+"=") }) {
				continue
			}
			port, err := freePort()
			if err != nil {
				return nil, err
			}
			argv = append(argv, flag, loopback(port))
		}
		r := &Role{Process: l.process(name, argv), Role: role}
		if err = r.Start(ctx); err == nil {
			return r, nil
		}
		if kill := r.Kill(); kill != nil {
			return nil, errors.Join(err, kill)
		}
		l.forget(r.Process)
		if tries == portTries || !portInUse(r.Tail(tailLines)) {
			return nil, err
		}
	}
}

// Start starts a role that has ended anew, under its name and on its addresses,
// and waits until it can be reached.
func (r *Role) Start(ctx context.Context) error {
	if err := r.Process.start(); err != nil {
		return err
	}
	return r.until(ctx, "said where it listens", func() (bool, error) {
		line, err := r.readyLine()
		if err != nil || line == "" {
			return false, err
		}
		return true, r.reached(line)
	})
}

// reached notes where the role listens. From its first start on it is the same:
// whoever knows the role knows where it is.
func (r *Role) reached(line string) error {
	for _, f := range strings.Fields(line)[2:] {
		k, v, _ := strings.Cut(f, "=")
		at := map[string]*string{"listen": &r.Listen, "peer": &r.Peer, "admin": &r.Admin}[k]
		switch {
		case r.Starts() == 1:
			*at = v
		case *at != v:
			return fmt.Errorf("lab: %s was at %s=%s and is at %s now; want a port that is not 0", r.Name, k, *at, v)
		}
	}
	return nil
}

// Restart is Start of a role that may run still: it is killed first.
func (r *Role) Restart(ctx context.Context) error {
	if err := r.Kill(); err != nil {
		return err
	}
	return r.Start(ctx)
}

// Stop drains the role: it interrupts it and waits. One that has not ended when
// ctx does writes what each of its goroutines is doing into its log, and is
// killed; that is an error, as is an exit code other than 0.
func (r *Role) Stop(ctx context.Context) error { return r.drain(ctx, syscall.SIGINT) }

// Terminate is Stop by the signal that Kubernetes and systemd send, SIGTERM.
func (r *Role) Terminate(ctx context.Context) error { return r.drain(ctx, syscall.SIGTERM) }

func (r *Role) drain(ctx context.Context, sig syscall.Signal) error {
	err := r.Process.interrupt(ctx, sig)
	if !r.Running() {
		return err
	}
	quit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, sent := r.signal(syscall.SIGQUIT, false)
	if sent == nil {
		_ = r.Wait(quit) // an exit code that says little
	}
	return errors.Join(fmt.Errorf("%w; what it was doing is in %s", err, r.Log), sent, r.Kill())
}

// readyLine returns the line of the present life that says where the role
// listens, or "" if there is none yet.
func (r *Role) readyLine() (string, error) {
	f, err := os.Open(r.Log)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.Seek(r.current().logAt, io.SeekStart); err != nil {
		return "", err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return "", err
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(r.Role+" "+r.Name) + `( (listen|peer|admin)=\S+)+$`).Find(text)
	// The last line may be there in part.
	if i := strings.Index(string(text), string(line)); i+len(line) == len(text) {
		return "", nil
	}
	return string(line), nil
}

// client does without connections that are kept: a role may be another process
// by the next request.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// get asks the role's operator's address, and returns the status and the body.
func (r *Role) get(ctx context.Context, path string) (int, []byte, error) {
	if r.Admin == "" {
		return 0, nil, fmt.Errorf("lab: %s has no address for operators", r.Name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// Answers reports whether a URL is answered with 200, within five seconds.
func Answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Get asks the role's operator's address, and returns the body. An answer other
// than 2xx is an error.
func (r *Role) Get(ctx context.Context, path string) ([]byte, error) {
	status, body, err := r.get(ctx, path)
	if err == nil && (status < 200 || status > 299) {
		err = fmt.Errorf("lab: %s: %s: HTTP %d: %.200s", r.Name, path, status, body)
	}
	return body, err
}

// Ready reports whether the role says that it is ready, and if not, why.
func (r *Role) Ready(ctx context.Context) (ok bool, why string) {
	status, body, err := r.get(ctx, "/readyz")
	if err != nil {
		return false, err.Error()
	}
	return status == http.StatusOK, strings.TrimSpace(string(body))
}

// AwaitReady waits until the role says that it is ready.
func (r *Role) AwaitReady(ctx context.Context) error {
	var why string
	err := r.until(ctx, "said that it is ready", func() (ok bool, _ error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		ok, why = r.Ready(ctx)
		return ok, nil
	})
	if err != nil {
		return fmt.Errorf("%w\n/readyz: %s", err, why)
	}
	return nil
}

// Metrics returns what the role measures, by name.
func (r *Role) Metrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	body, err := r.Get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(strings.NewReader(string(body)))
}
