//go:build unix

package check

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	composetypes "github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

// given is what docs/compose.md has the operator put into .env.
var given = composetypes.Mapping{
	"CAIRN_REDIS_PASSWORD": "redis-password", "CAIRN_POSTGRES_PASSWORD": "postgres-password",
	"CAIRN_ADMIN_TOKEN": "admin-token", "CAIRN_GRAFANA_PASSWORD": "grafana-password",
}

// compose loads the Compose file as docker compose does, all profiles on.
func compose(ctx context.Context, content []byte, env composetypes.Mapping) (*composetypes.Project, error) {
	dir, err := filepath.Abs(filepath.Join("..", "compose"))
	if err != nil {
		return nil, err
	}
	details := composetypes.ConfigDetails{
		WorkingDir: dir, Environment: maps.Clone(env), // it is added to
		ConfigFiles: []composetypes.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: content}},
	}
	return loader.LoadWithContext(ctx, details, func(o *loader.Options) { o.Profiles = []string{"*"} })
}

func project(t *testing.T) *composetypes.Project {
	t.Helper()
	p, err := compose(t.Context(), read(t, "deploy/compose/compose.yaml"), given)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ours reports whether a service runs cairn.
func ours(s composetypes.ServiceConfig) bool { return s.Image == "cairn" }

// isRole reports whether it runs one of the fleet's.
func isRole(s composetypes.ServiceConfig) bool { return ours(s) && len(s.Profiles) == 0 }

// TestComposeLoads: docker compose understands the file, all of it, and does not
// without the secrets.
func TestComposeLoads(t *testing.T) {
	p := project(t)
	roles := map[string]int{}
	for _, s := range p.Services {
		if isRole(s) {
			roles[s.Command[0]]++
		}
		for _, v := range s.Volumes {
			if v.Type != composetypes.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts %v", s.Name, err)
			}
			if !v.ReadOnly {
				t.Errorf("%s may write to %s", s.Name, v.Source)
			}
		}
		for _, at := range s.Ports {
			if at.HostIP != "127.0.0.1" && at.Published != "8080" {
				t.Errorf("%s: port %s is open to others; want players' alone", s.Name, at.Published)
			}
		}
		if ours(s) && (s.Build == nil || !strings.HasSuffix(s.Build.Dockerfile, "Dockerfile") || !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL")) {
			t.Errorf("%s is not built here, or may do more than it must", s.Name)
		}
	}
	for _, role := range []string{"generator", "claims", "gateway", "leaderboard", "rewards"} {
		if roles[role] == 0 {
			t.Errorf("no service runs cairn %s", role)
		}
		if !strings.Contains(*p.Services["gateway"].Environment["CAIRN_FLEET"], fmt.Sprintf("%s=%d", role, roles[role])) {
			t.Errorf("CAIRN_FLEET is %s, and there are %d of %s", *p.Services["gateway"].Environment["CAIRN_FLEET"], roles[role], role)
		}
	}
	text := read(t, "deploy/compose/compose.yaml")
	for _, key := range []string{"restart", "stop_grace_period", "condition", "internal", "profiles"} {
		wrong := bytes.Replace(text, []byte(key+": "), []byte(key+"s: "), 1)
		if bytes.Equal(wrong, text) {
			t.Fatalf("no %s to misspell", key)
		}
		if _, err := compose(t.Context(), wrong, given); err == nil {
			t.Errorf("%s was misspelt, and nobody noticed", key)
		}
	}
	for name := range given {
		env := composetypes.Mapping{}
		for k, v := range given {
			if k != name {
				env[k] = v
			}
		}
		if _, err := compose(t.Context(), text, env); err == nil {
			t.Errorf("without %s the file loads: there would be an empty password", name)
		}
	}
}

// TestComposeFlags: every variable of a service is a flag of what it runs.
func TestComposeFlags(t *testing.T) {
	for _, s := range project(t).Services {
		if !isRole(s) {
			continue
		}
		known := flags(t, s.Command[0])
		for name := range s.Environment {
			if strings.HasPrefix(name, "CAIRN_") && !known[name] {
				t.Errorf("%s: %s is no flag of cairn %s", s.Name, name, s.Command[0])
			}
		}
		if to := s.Environment["CAIRN_ADVERTISE"]; to != nil {
			if host, _, err := net.SplitHostPort(*to); err != nil || host != s.Name {
				t.Errorf("%s says that it is at %s", s.Name, *to)
			}
		}
	}
}

// serviceCommand returns what a service runs.
func serviceCommand(s composetypes.ServiceConfig) command {
	c := command{name: s.Name, args: s.Command, env: map[string]string{}, mounts: map[string]string{}}
	for name, value := range s.Environment {
		if value != nil {
			c.env[name] = *value
		}
	}
	for _, v := range s.Volumes {
		c.mounts[v.Target] = v.Source
	}
	return c
}

// TestComposeRuns does with the services' own commands what docs/compose.md has
// the operator do, on a Redis with the settings that the file gives it.
func TestComposeRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("starts stores and a fleet: some 5 s")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a machine may be busy
	defer cancel()
	p := project(t)
	var settings []string
	for i, args := 0, p.Services["redis"].Command[1:]; i < len(args); i += 2 {
		if args[i] != "--requirepass" { // the lab's own has none
			settings = append(settings, args[i], args[i+1])
		}
	}
	s := newSystem(t, settings...)
	if out, err := s.run(ctx, serviceCommand(p.Services["provision"])); err != nil || !strings.Contains(out, "provisioned 24 shards, acknowledged as fsync") {
		t.Fatalf("provision: %v: %s", err, out)
	}
	if out, err := s.run(ctx, serviceCommand(p.Services["cairn"])); err != nil || !strings.HasPrefix(out, "cairn ") {
		t.Fatalf("cairn: %v: %s", err, out)
	}
	var cs []command
	for _, service := range p.Services {
		if isRole(service) {
			c := serviceCommand(service)
			c.asked = []probe{{9090, "/healthz"}, {9090, "/readyz"}}
			cs = append(cs, c)
		}
	}
	ps, err := s.startAll(ctx, cs)
	if err != nil {
		t.Fatal(err)
	}
	if err := stopAll(ctx, ps); err != nil {
		t.Error(err)
	}
}

// TestComposeScraped: Prometheus asks each process, under the job of its role and
// its own name; the folder that Grafana reads is there.
func TestComposeScraped(t *testing.T) {
	p := project(t)
	var f struct {
		ScrapeConfigs []struct {
			JobName       string `json:"job_name"`
			StaticConfigs []struct {
				Targets []string
				Labels  map[string]string
			} `json:"static_configs"`
		} `json:"scrape_configs"`
	}
	if err := yaml.Unmarshal(read(t, "deploy/compose/prometheus.yml"), &f); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, job := range f.ScrapeConfigs {
		for _, c := range job.StaticConfigs {
			for _, target := range c.Targets {
				got[target] = job.JobName + " " + c.Labels["instance"]
			}
		}
	}
	roles := 0
	for _, s := range p.Services {
		if !isRole(s) {
			continue
		}
		roles++
		if at, want := s.Name+*s.Environment["CAIRN_ADMIN"], "cairn-"+s.Command[0]+" "+*s.Environment["CAIRN_NAME"]; got[at] != want {
			t.Errorf("%s is scraped as %q; want %q", at, got[at], want)
		}
	}
	if len(got) != roles {
		t.Errorf("scraped are %v; want the %d processes of the fleet", got, roles)
	}
	dashboards := false
	for _, v := range p.Services["grafana"].Volumes {
		dashboards = dashboards || v.Target == "/etc/cairn/dashboards" && strings.HasSuffix(v.Source, filepath.Join("ops", "grafana"))
	}
	if !dashboards || !bytes.Contains(read(t, "deploy/compose/grafana/dashboards.yml"), []byte("path: /etc/cairn/dashboards")) {
		t.Error("Grafana reads no folder of ours")
	}
}

// TestImage: what manifests take to be in the image is what the Dockerfile puts
// there. It is read line by line: there is no engine here that could build it.
func TestImage(t *testing.T) {
	text := string(read(t, "deploy/Dockerfile"))
	for what, want := range map[string]string{
		"build without cgo":       `(?m)^RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /out/cairn ./cmd/cairn$`,
		"user of securityContext": `(?m)^USER 65532:65532$`,
		"entrypoint":              `(?m)^ENTRYPOINT \["/usr/bin/cairn"\]$`,
		"folder of the keys":      `(?m)^COPY --from=build --chown=65532:65532 /out/etc/cairn /etc/cairn$`,
		"folder of the data":      `(?m)^COPY --from=build --chown=65532:65532 /out/var/lib/cairn /var/lib/cairn$`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("deploy/Dockerfile: no %s: want a line %s", what, want)
		}
	}
	gomod := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(read(t, "go.mod")))
	if !strings.Contains(text, "FROM golang:"+gomod[1]+" AS build\n") {
		t.Errorf("deploy/Dockerfile does not build with Go %s, as go.mod has it", gomod[1])
	}
}
