package check

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/veltrix/cairn/internal/capacity"
)

// A rule is one of Prometheus.
type rule struct {
	Record, Alert, Expr string
	Labels              map[string]string
}

func rules(t *testing.T, file string) (all []rule) {
	t.Helper()
	var f struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal(read(t, filepath.Join("ops", "prometheus", file)), &f); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// settings returns a ConfigMap by the name that it has in the base.
func settings(t *testing.T, all []object, name string) map[string]string {
	t.Helper()
	for _, c := range of[corev1.ConfigMap](all) {
		if strings.HasPrefix(c.Name, name+"-") && strings.Count(c.Name, "-") == strings.Count(name, "-")+1 {
			return c.Data
		}
	}
	t.Fatalf("no ConfigMap %s", name)
	return nil
}

// declared parses CAIRN_FLEET.
func declared(t *testing.T, all []object) map[string]int {
	t.Helper()
	most := map[string]int{}
	for part := range strings.SplitSeq(settings(t, all, "cairn-settings")["CAIRN_FLEET"], ",") {
		role, count, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(count)
		if err != nil {
			t.Fatalf("CAIRN_FLEET: %q: %v", part, err)
		}
		most[role] = n
	}
	return most
}

// thresholds returns what one process should have, by role and trigger.
func thresholds(t *testing.T, all []object) map[string]map[string]float64 {
	t.Helper()
	each := map[string]map[string]float64{}
	for _, s := range of[scaledObject](all) {
		role := strings.TrimPrefix(s.Metadata.Name, "cairn-")
		each[role] = map[string]float64{}
		for _, trigger := range s.Spec.Triggers {
			n, err := strconv.ParseFloat(trigger.Metadata["threshold"], 64)
			if err != nil || n <= 0 {
				t.Fatalf("%s, %s: threshold: %q, %v", s.Metadata.Name, trigger.Name, trigger.Metadata["threshold"], err)
			}
			each[role][trigger.Name] = n
		}
	}
	return each
}

// TestScaled: each ScaledObject scales what is there and is scaled by nobody
// else, by figures that are recorded, in a way that survives Prometheus.
func TestScaled(t *testing.T) {
	all := objects(t, "production")
	most := declared(t, all)
	ws := map[string]workload{}
	for _, w := range workloads(all) {
		ws[w.kind+" "+w.name] = w
	}
	recorded := map[string]bool{}
	for _, r := range rules(t, "recording.yml") {
		recorded[r.Record] = true
	}
	scaled := map[string]bool{}
	for _, s := range of[scaledObject](all) {
		wrong := func(format string, args ...any) {
			t.Helper()
			t.Errorf("ScaledObject %s: %s", s.Metadata.Name, fmt.Sprintf(format, args...))
		}
		w, ok := ws[s.Spec.ScaleTargetRef.Kind+" "+s.Spec.ScaleTargetRef.Name]
		if !ok {
			wrong("scales %v, which is not there", s.Spec.ScaleTargetRef)
			continue
		}
		scaled[w.role()] = true
		if w.replicas != nil {
			wrong("%s says itself that it has %d replicas: each apply would undo what was scaled", w, *w.replicas)
		}
		least, top := s.Spec.MinReplicaCount, s.Spec.MaxReplicaCount
		if least == nil || top == nil || *least < 2 || *top <= *least {
			wrong("has %v to %v processes; want two at least, and more at most", least, top)
			continue
		}
		if int(*top) != most[w.role()] {
			wrong("maxReplicaCount is %d, and CAIRN_FLEET says %d", *top, most[w.role()])
		}
		kept(s, wrong)
		if s.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior == nil {
			wrong("has no behavior")
			continue
		}
		slow(s.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior, wrong)
		triggered(s, recorded, wrong)
	}
	for role := range most {
		if want := role == "gateway" || role == "claims" || role == "rewards"; scaled[role] != want {
			t.Errorf("%s is scaled: %v; want %v", role, scaled[role], want)
		}
	}
	for _, w := range ws {
		if !scaled[w.role()] && (w.replicas == nil || int(*w.replicas) != most[w.role()]) {
			t.Errorf("%s has %v replicas, and CAIRN_FLEET says %d", w, w.replicas, most[w.role()])
		}
	}
}

// kept: while Prometheus is away a role keeps what it has, or more.
func kept(s *scaledObject, wrong func(string, ...any)) {
	f := s.Spec.Fallback
	if f == nil || f.FailureThreshold <= 0 || f.Replicas < *s.Spec.MinReplicaCount || f.Replicas > *s.Spec.MaxReplicaCount || f.Behavior != "currentReplicasIfHigher" {
		wrong("fallback is %v; want a number within its bounds, and never fewer than there are", f)
	}
}

// slow: up at once, down one by one after minutes.
func slow(b *autoscalingv2.HorizontalPodAutoscalerBehavior, wrong func(string, ...any)) {
	if b.ScaleUp == nil || b.ScaleUp.StabilizationWindowSeconds == nil || *b.ScaleUp.StabilizationWindowSeconds != 0 || len(b.ScaleUp.Policies) == 0 {
		wrong("scaleUp is %v; want no window, and policies", b.ScaleUp)
	}
	d := b.ScaleDown
	if d == nil || d.StabilizationWindowSeconds == nil || *d.StabilizationWindowSeconds < 300 || len(d.Policies) != 1 {
		wrong("scaleDown is %v; want a window of minutes, and one policy", d)
		return
	}
	if p := d.Policies[0]; p.Type != autoscalingv2.PodsScalingPolicy || p.Value != 1 || p.PeriodSeconds < 60 {
		wrong("scaleDown takes %v; want one pod a minute at most", p)
	}
}

// triggered: triggers ask Prometheus for what is recorded for them, never for
// CPU, and an answer without a figure is a failure and not 0.
func triggered(s *scaledObject, recorded map[string]bool, wrong func(string, ...any)) {
	names := map[string]bool{}
	for _, tr := range s.Spec.Triggers {
		if names[tr.Name] || tr.Name == "" {
			wrong("trigger %q: want a name of its own", tr.Name)
		}
		names[tr.Name] = true
		if tr.Type != "prometheus" || tr.MetricType != autoscalingv2.AverageValueMetricType {
			wrong("%s: is of type %s and %s; want prometheus and AverageValue", tr.Name, tr.Type, tr.MetricType)
		}
		if q := tr.Metadata["query"]; !recorded[q] || !strings.HasPrefix(q, "cairn:scale_") {
			wrong("%s: asks for %s, which ops/prometheus/recording.yml does not record for it", tr.Name, q)
		}
		if tr.Metadata["ignoreNullValues"] != "false" {
			wrong("%s: takes no answer for 0: a Prometheus that has just started would end processes", tr.Name)
		}
		for key := range tr.Metadata {
			if key != "serverAddress" && key != "query" && key != "threshold" && key != "ignoreNullValues" {
				wrong("%s: %s is no setting of this trigger that we use", tr.Name, key) // metadata is a map: KEDA's type can't tell
			}
		}
	}
}

var wantedRule = regexp.MustCompile(`^(cairn:scale_\w+:\w+) / ([0-9.]+)$`)

// TestWanted: what Prometheus records as wanted, for alerts and people, is what
// the autoscaler makes of the same figures.
func TestWanted(t *testing.T) {
	all := objects(t, "production")
	want := thresholds(t, all)
	queries := map[string]string{}
	for _, s := range of[scaledObject](all) {
		for _, tr := range s.Spec.Triggers {
			queries[strings.TrimPrefix(s.Metadata.Name, "cairn-")+" "+tr.Name] = tr.Metadata["query"]
		}
	}
	seen := map[string]bool{}
	for _, r := range rules(t, "recording.yml") {
		if r.Record != "cairn:scale_wanted:processes" {
			continue
		}
		role, by := r.Labels["role"], r.Labels["by"]
		m := wantedRule.FindStringSubmatch(r.Expr)
		if m == nil {
			t.Errorf("%s of %s by %s is %s; want a figure / a threshold", r.Record, role, by, r.Expr)
			continue
		}
		seen[role+" "+by] = true
		if got := m[1] + " / " + strconv.FormatFloat(want[role][by], 'g', -1, 64); got != r.Expr || m[1] != queries[role+" "+by] {
			t.Errorf("%s of %s by %s is %s, and the ScaledObject has %s / %v", r.Record, role, by, r.Expr, queries[role+" "+by], want[role][by])
		}
	}
	if len(seen) != len(queries) {
		t.Errorf("recorded as wanted is %v; want each of %v", seen, queries)
	}
}

// planned has cairn plan reckon the load of the production overlay.
func planned(t *testing.T) *capacity.Plan {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cairn(t), "plan", "--json", "--load", filepath.Join(overlayDir("production"), "load.yaml"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cairn plan: %v", err)
	}
	p := new(capacity.Plan)
	if err := json.Unmarshal(out, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSizes: what pods request is what cairn plan was asked about, its plan
// fits, and what an autoscaler lets one process have is within its headroom.
func TestSizes(t *testing.T) {
	all := objects(t, "production")
	p := planned(t)
	load, machine := &p.Load, &p.Load.Machine
	if len(p.Unmet) != 0 {
		t.Errorf("cairn plan says that the load does not fit: %v", p.Unmet)
	}
	if p.Shards != 24 {
		t.Errorf("%d shards are planned; want 24", p.Shards)
	}
	requests := map[string]*corev1.ResourceList{}
	for _, w := range workloads(all) {
		requests[w.role()] = &w.container().Resources.Requests
	}
	for role, want := range map[string]float64{"gateway": machine.GatewayCores, "claims": machine.ClaimsCores, "rewards": machine.FollowerCores} {
		if got := requests[role].Cpu().AsApproximateFloat64(); got != want {
			t.Errorf("%s requests %g cores; planned with are %g", role, got, want)
		}
	}
	if got := requests["leaderboard"].Cpu().AsApproximateFloat64(); got < machine.FollowerCores {
		t.Errorf("leaderboard requests %g cores; planned with are %g", got, machine.FollowerCores)
	}
	most := declared(t, all)
	for role, n := range map[string]int{"gateway": p.Processes.Gateways, "claims": p.Processes.Claims, "rewards": p.Processes.Rewards} {
		if float64(n) > 0.8*float64(most[role]) {
			t.Errorf("%d processes of %s are planned, and %d allowed: CairnScalingNearLimit would fire at the load that all is made for", n, role, most[role])
		}
	}
	if most["claims"] > p.Shards/2 {
		t.Errorf("%d claims processes are allowed, and there are %d shards; want two for each", most["claims"], p.Shards)
	}
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	connectionsMax, err := strconv.ParseFloat(settings(t, all, "cairn-gateway-settings")["CAIRN_CONNECTIONS_MAX"], 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range p.Limits {
		if l.Name == "sockets of a gateway" && l.Of != connectionsMax {
			t.Errorf("CAIRN_CONNECTIONS_MAX is %g, and gateway_files of load.yaml are %g connections", connectionsMax, l.Of)
		}
	}
	if got, most := machine.ProcessMemory*1e9+connectionsMax*(c.SocketUser+c.SocketKernel), requests["gateway"].Memory().AsApproximateFloat64(); got > most || machine.GatewayMemory*1e9 > most {
		t.Errorf("a full gateway has %.2g bytes of connections and is planned with %g GB; requested are %.2g", got, machine.GatewayMemory, most)
	}
	each := thresholds(t, all)
	full := *load
	full.Over = "http" // which takes more of a gateway
	gateway := each["gateway"]["connections"]*connectionsMax*c.SocketCores(load) + each["gateway"]["attempts"]*c.AttemptCores(&full) +
		c.GatewayIdle + load.WinsPerS()*c.GatewayWin
	if most := machine.GatewayCores * (1 - load.Headroom); gateway > most {
		t.Errorf("a gateway at its thresholds takes %.2f cores; want %.2f at most", gateway, most)
	}
	attempts := each["claims"]["attempts"]
	claims := attempts*(c.ClaimsAttempt+load.Wins*c.ClaimsWin) + c.ClaimsIdle + float64(most["claims"])*attempts*load.Wins*c.ClaimsStandby
	if most := machine.ClaimsCores * (1 - load.Headroom); claims > most {
		t.Errorf("a claims process at its threshold takes %.2f cores, all others being there too; want %.2f at most", claims, most)
	}
	t.Logf("at their thresholds: a gateway %.2f cores, a claims process %.2f", gateway, claims)
}

// TestScraped: Prometheus takes the configurations. Debian's knows nothing of
// Kubernetes: what finds pods is put aside, and what is made of them is not.
func TestScraped(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("no promtool on the PATH: scripts/setup.sh prometheus installs it (Debian: apt-get install prometheus)")
	}
	for _, file := range []string{"deploy/kubernetes/monitoring/prometheus.yml", "deploy/compose/prometheus.yml"} {
		var config map[string]any
		if err := yaml.UnmarshalStrict(read(t, file), &config); err != nil {
			t.Fatal(err)
		}
		for _, job := range config["scrape_configs"].([]any) {
			delete(job.(map[string]any), "kubernetes_sd_configs")
		}
		rest, err := yaml.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "prometheus.yml")
		if err := os.WriteFile(path, rest, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), promtool, "check", "config", "--syntax-only", path).CombinedOutput(); err != nil {
			t.Errorf("promtool, of %s: %v\n%s", file, err, out)
		}
	}
}
