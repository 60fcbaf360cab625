//go:build unix

package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var flagEnv = regexp.MustCompile(`\$(CAIRN_[A-Z0-9_]+)`)

// flags returns the variables that a command of cairn reads, by its own help.
func flags(t *testing.T, args ...string) map[string]bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), cairn(t), append(slices.Clone(args), "--help")...).Output()
	if err != nil {
		t.Fatalf("cairn %s --help: %v", strings.Join(args, " "), err)
	}
	names := map[string]bool{}
	for _, m := range flagEnv.FindAllSubmatch(out, -1) {
		names[string(m[1])] = true
	}
	if !names["CAIRN_LOG_LEVEL"] {
		t.Fatalf("cairn %s --help: names no variables:\n%s", strings.Join(args, " "), out)
	}
	return names
}

// TestFlags: every variable of a container is a flag of its role; what a
// ConfigMap has for several roles, of one of those that read it.
func TestFlags(t *testing.T) {
	for _, overlay := range overlays {
		all := objects(t, overlay)
		readBy := map[string][]map[string]bool{}
		for _, w := range workloads(all) {
			c := w.container()
			if len(c.Command) != 0 || len(c.Args) != 1 || c.Args[0] != w.role() {
				t.Errorf("%s: %s runs %v %v; want its role alone", overlay, w, c.Command, c.Args)
			}
			known := flags(t, c.Args...)
			for _, e := range c.Env {
				if strings.HasPrefix(e.Name, "CAIRN_") && !known[e.Name] {
					t.Errorf("%s: %s: %s is no flag of cairn %s", overlay, w, e.Name, w.role())
				}
			}
			for _, from := range c.EnvFrom {
				readBy[from.ConfigMapRef.Name] = append(readBy[from.ConfigMapRef.Name], known)
			}
		}
		for _, m := range of[corev1.ConfigMap](all) {
			for name := range m.Data {
				if !slices.ContainsFunc(readBy[m.Name], func(known map[string]bool) bool { return known[name] }) {
					t.Errorf("%s: ConfigMap %s: %s is no flag of whoever reads it", overlay, m.Name, name)
				}
			}
		}
	}
}

// TestWrong: a value that a flag does not take ends the process as used wrongly,
// so that what runs below was understood.
func TestWrong(t *testing.T) {
	for _, env := range []string{"CAIRN_ACK=durable", "CAIRN_FLEET=gateways=2", "CAIRN_ADMIN=:9090"} {
		cmd := exec.CommandContext(t.Context(), cairn(t), "rewards", "--ledger", "postgres://cairn@127.0.0.1:1/cairn", "--log", "redis://127.0.0.1:1")
		cmd.Env = []string{env}
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("with %s: %v; want exit code 2", env, err)
		}
	}
}

var reference = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)

// command returns what a pod of a workload runs, as the kubelet works it out.
func (w workload) command(all []object, n int) (command, error) {
	c := w.container()
	out := command{name: fmt.Sprintf("%s-%d", w.name, n), args: c.Args, env: map[string]string{}, mounts: map[string]string{}}
	for _, from := range c.EnvFrom {
		for _, m := range of[corev1.ConfigMap](all) {
			if m.Name == from.ConfigMapRef.Name {
				maps.Copy(out.env, m.Data)
			}
		}
	}
	for _, e := range c.Env {
		value := reference.ReplaceAllStringFunc(e.Value, func(ref string) string {
			if value, ok := out.env[ref[2:len(ref)-1]]; ok {
				return value
			}
			return ref // as Kubernetes leaves it
		})
		if e.ValueFrom != nil {
			var err error
			if value, err = valueFrom(c, e.ValueFrom, out.name); err != nil {
				return out, fmt.Errorf("%s: %s: %w", w, e.Name, err)
			}
		}
		out.env[e.Name] = value
	}
	volumes := map[string]string{}
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = v.Secret.SecretName
	}
	for _, m := range c.VolumeMounts {
		out.mounts[m.MountPath] = volumes[m.Name]
		if volumes[m.Name] == "" { // a claim: each pod has its own
			out.mounts[m.MountPath] = out.name
		}
	}
	for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		n, ok := port(c, p.HTTPGet.Port)
		if !ok {
			return out, fmt.Errorf("%s: no port %s", w, p.HTTPGet.Port.String())
		}
		out.asked = append(out.asked, probe{n, p.HTTPGet.Path})
	}
	return out, nil
}

// valueFrom returns a variable's value that comes from elsewhere.
func valueFrom(c *corev1.Container, from *corev1.EnvVarSource, name string) (string, error) {
	switch {
	case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
		return name, nil
	case from.FieldRef != nil && from.FieldRef.FieldPath == "status.podIP":
		return "127.0.0.1", nil
	case from.SecretKeyRef != nil:
		return from.SecretKeyRef.Name + "/" + from.SecretKeyRef.Key, nil // a token, or a store, which is put in place
	case from.ResourceFieldRef != nil && from.ResourceFieldRef.Resource == "requests.cpu":
		return fmt.Sprint(c.Resources.Requests.Cpu().Value()), nil // rounded up
	case from.ResourceFieldRef != nil && from.ResourceFieldRef.Resource == "requests.memory":
		return fmt.Sprint(c.Resources.Requests.Memory().Value()), nil
	}
	return "", fmt.Errorf("is from %v, which this test does not know", from)
}

// TestRuns starts one process of each role with the arguments, environment and
// probes that its manifest has, on real stores, takes Redis away and brings it
// back: whoever asks whether a process is alive must hear yes throughout.
func TestRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("starts stores and fleets: some 10 s")
	}
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a machine may be busy
			defer cancel()
			s := newSystem(t)
			provision := command{
				name: "provision", args: []string{"log", "init", "--shards-max", "24", "--keys", "/etc/cairn/keys.json"},
				env: map[string]string{"CAIRN_LOG": ""}, mounts: map[string]string{"/etc/cairn": "cairn-keys"},
			}
			if _, err := s.run(ctx, provision); err != nil {
				t.Fatal(err)
			}
			all := objects(t, overlay)
			var cs []command
			for _, w := range workloads(all) {
				c, err := w.command(all, 0)
				if err != nil {
					t.Fatal(err)
				}
				cs = append(cs, c)
			}
			ps, err := s.startAll(ctx, cs)
			if err != nil {
				t.Fatal(err)
			}
			survives(ctx, t, s, cs, ps)
			if err := stopAll(ctx, ps); err != nil {
				t.Error(err)
			}
		})
	}
}

var beatsMissed = regexp.MustCompile(`(?m)^cairn_fleet_beats_missed_total\{[^}]*\} (\d+)$`)

// missed returns how many heartbeats of a process Redis did not take.
func missed(ctx context.Context, c command, p *process) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.at[c.asked[0].port]+"/metrics", nil)
	if err != nil {
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+c.env["CAIRN_ADMIN_TOKEN"])
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if m := beatsMissed.FindSubmatch(text); err == nil && m != nil {
		n, _ := strconv.Atoi(string(m[1])) // digits
		return n
	}
	return 0
}

// survives takes Redis away until every process has missed it, for longer than
// its lease runs, and brings it back.
func survives(ctx context.Context, t *testing.T, s *system, cs []command, ps []*process) {
	t.Helper()
	if err := s.redis.Kill(); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "fleet that misses Redis", func() bool {
		for i, c := range cs {
			if missed(ctx, c, ps[i]) < 3 {
				return false
			}
		}
		return true
	})
	for i, c := range cs {
		alive := slices.DeleteFunc(slices.Clone(c.asked), func(p probe) bool { return p.path != "/healthz" })
		if ok, err := ps[i].answers(alive); !ok || len(alive) == 0 {
			t.Errorf("%s: Redis is away, and the probes that end a process are not answered: %v\n%s", c.name, err, ps[i].Tail(20))
		}
	}
	if err := s.redis.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "ready fleet after Redis came back", func() bool {
		for i, c := range cs {
			if ok, _ := ps[i].answers(c.asked); !ok {
				return false
			}
		}
		return true
	})
}

// await waits until something holds.
func await(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("no %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
