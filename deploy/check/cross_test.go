package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// A workload is a Deployment or a StatefulSet.
type workload struct {
	kind, name, namespace string
	replicas              *int32
	selector              *metav1.LabelSelector
	pod                   *corev1.PodTemplateSpec
	service               string // that governs a StatefulSet
	claims                []corev1.PersistentVolumeClaim
}

func (w workload) String() string { return w.kind + " " + w.name }

// role returns which role of the fleet it runs.
func (w workload) role() string { return w.pod.Labels["app.kubernetes.io/component"] }

func (w workload) container() *corev1.Container { return &w.pod.Spec.Containers[0] }

func workloads(all []object) (some []workload) {
	for _, d := range of[appsv1.Deployment](all) {
		some = append(some, workload{"Deployment", d.Name, d.Namespace, d.Spec.Replicas, d.Spec.Selector, &d.Spec.Template, "", nil})
	}
	for _, s := range of[appsv1.StatefulSet](all) {
		some = append(some, workload{"StatefulSet", s.Name, s.Namespace, s.Spec.Replicas, s.Spec.Selector, &s.Spec.Template, s.Spec.ServiceName, s.Spec.VolumeClaimTemplates})
	}
	return some
}

// selected returns the workloads whose pods a selector selects.
func selected(ws []workload, selector *metav1.LabelSelector) (some []workload, err error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, err
	}
	for _, w := range ws {
		if s.Matches(labels.Set(w.pod.Labels)) {
			some = append(some, w)
		}
	}
	return some, nil
}

// port returns the number of a port of a container, by name or number.
func port(c *corev1.Container, p intstr.IntOrString) (int, bool) {
	for _, have := range c.Ports {
		if p.Type == intstr.String && have.Name == p.StrVal || p.Type == intstr.Int && have.ContainerPort == p.IntVal {
			return int(have.ContainerPort), true
		}
	}
	return 0, false
}

// TestSelectors: whatever selects pods selects those that it means, and a port
// that it names is theirs.
func TestSelectors(t *testing.T) {
	for _, overlay := range overlays {
		all := objects(t, overlay)
		ws := workloads(all)
		one := func(what string, selector *metav1.LabelSelector) workload {
			some, err := selected(ws, selector)
			if err != nil || len(some) != 1 {
				t.Fatalf("%s: %s selects %v, %v; want one workload", overlay, what, some, err)
			}
			return some[0]
		}
		for _, w := range ws {
			if got := one(w.String(), w.selector); got.name != w.name {
				t.Errorf("%s: %s selects the pods of %s", overlay, w, got)
			}
			for _, c := range w.pod.Spec.TopologySpreadConstraints {
				if got := one(w.String()+": topology spread", c.LabelSelector); got.name != w.name {
					t.Errorf("%s: %s spreads the pods of %s", overlay, w, got)
				}
			}
		}
		for _, s := range of[corev1.Service](all) {
			w := one("Service "+s.Name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
			for _, p := range s.Spec.Ports {
				if _, ok := port(w.container(), p.TargetPort); !ok {
					t.Errorf("%s: Service %s: %s has no port %s", overlay, s.Name, w, p.TargetPort.String())
				}
			}
		}
		for _, b := range of[policyv1.PodDisruptionBudget](all) {
			if got := one("PodDisruptionBudget "+b.Name, b.Spec.Selector); got.name != b.Name {
				t.Errorf("%s: PodDisruptionBudget %s is of %s", overlay, b.Name, got)
			}
			if b.Spec.MaxUnavailable == nil || b.Spec.MaxUnavailable.IntVal != 1 {
				t.Errorf("%s: PodDisruptionBudget %s: maxUnavailable is %v; want 1: with minAvailable a role of one could never be moved", overlay, b.Name, b.Spec.MaxUnavailable)
			}
		}
		policies(t, overlay, all, ws)
	}
}

// policies: nobody but gateways, claims and leaderboard processes reaches a
// --peer, and every port is let in by somebody.
func policies(t *testing.T, overlay string, all []object, ws []workload) {
	t.Helper()
	let := map[string][]string{} // role and port, to roles that may come
	closed := map[string]bool{}
	for _, p := range of[networkingv1.NetworkPolicy](all) {
		to, err := selected(ws, &p.Spec.PodSelector)
		if err != nil || len(to) == 0 {
			t.Fatalf("%s: NetworkPolicy %s selects nobody: %v", overlay, p.Name, err)
		}
		for _, w := range to {
			closed[w.name] = true
			for _, in := range p.Spec.Ingress {
				if len(in.Ports) == 0 {
					t.Errorf("%s: NetworkPolicy %s lets in on every port", overlay, p.Name)
				}
				for _, at := range in.Ports {
					if _, ok := port(w.container(), *at.Port); !ok {
						t.Errorf("%s: NetworkPolicy %s: %s has no port %s", overlay, p.Name, w, at.Port.String())
					}
					key := w.role() + " " + at.Port.String()
					if len(in.From) == 0 {
						let[key] = append(let[key], "anybody")
					}
					for _, from := range in.From {
						if from.PodSelector == nil {
							let[key] = append(let[key], fmt.Sprint(from.NamespaceSelector.MatchLabels))
							continue
						}
						some, err := selected(ws, from.PodSelector)
						if err != nil || len(some) == 0 {
							t.Errorf("%s: NetworkPolicy %s lets nobody in: %v", overlay, p.Name, err)
						}
						for _, w := range some {
							let[key] = append(let[key], w.role())
						}
					}
				}
			}
		}
	}
	monitoring := "map[kubernetes.io/metadata.name:monitoring]"
	want := map[string][]string{
		"gateway play":     {"anybody"},
		"claims peer":      {"claims", "gateway"},
		"leaderboard peer": {"gateway", "leaderboard"},
	}
	for _, w := range ws {
		want[w.role()+" admin"] = []string{monitoring}
		if !closed[w.name] {
			t.Errorf("%s: no NetworkPolicy is about %s", overlay, w)
		}
		for _, p := range w.container().Ports {
			if key := w.role() + " " + p.Name; want[key] == nil {
				t.Errorf("%s: %s has a port %s that nobody may reach", overlay, w, p.Name)
			}
		}
	}
	for key, who := range want {
		got := slices.Clone(let[key])
		slices.Sort(got)
		if !slices.Equal(got, who) {
			t.Errorf("%s: %s is reached by %q; want %q", overlay, key, got, who)
		}
	}
	if len(let) != len(want) {
		t.Errorf("%s: let in are %v; want %v", overlay, let, want)
	}
}

// secrets are those that docs/kubernetes.md has the operator make.
var secrets = map[string][]string{
	"cairn-admin":    {"token"},
	"cairn-keys":     {"keys.json"},
	"cairn-postgres": {"url"},
	"cairn-redis":    {"generator", "claims", "gateway", "leaderboard", "rewards"},
}

// TestPods: what a pod refers to is there, and it may do no more than it must.
func TestPods(t *testing.T) {
	for _, overlay := range overlays {
		all := objects(t, overlay)
		services, configs := map[string]*corev1.Service{}, map[string]bool{}
		for _, s := range of[corev1.Service](all) {
			services[s.Name] = s
		}
		for _, c := range of[corev1.ConfigMap](all) {
			configs[c.Name] = true
		}
		for _, w := range workloads(all) {
			wrong := func(format string, args ...any) {
				t.Helper()
				t.Errorf("%s: %s: %s", overlay, w, fmt.Sprintf(format, args...))
			}
			if w.kind == "StatefulSet" && (services[w.service] == nil || services[w.service].Spec.ClusterIP != corev1.ClusterIPNone) {
				wrong("serviceName is %q; want a headless Service", w.service)
			}
			hardened(w, wrong)
			mounted(w, wrong)
			probed(w, wrong)
			for _, from := range w.container().EnvFrom {
				if from.ConfigMapRef == nil || !configs[from.ConfigMapRef.Name] {
					wrong("envFrom: %v is not there", from)
				}
			}
			for _, e := range w.container().Env {
				if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
					continue
				}
				if ref := e.ValueFrom.SecretKeyRef; !slices.Contains(secrets[ref.Name], ref.Key) {
					wrong("%s is of Secret %s, key %s, which docs/kubernetes.md does not have made", e.Name, ref.Name, ref.Key)
				}
			}
		}
	}
	docs := string(read(t, "docs/kubernetes.md"))
	for name := range secrets {
		if !strings.Contains(docs, "create secret generic "+name+" ") {
			t.Errorf("docs/kubernetes.md does not say how Secret %s is made", name)
		}
	}
}

// hardened: the namespace's pod security is "restricted", and the root file
// system is read only.
func hardened(w workload, wrong func(string, ...any)) {
	pod, c := &w.pod.Spec, w.container()
	if len(pod.Containers) != 1 || len(pod.InitContainers) != 0 {
		wrong("has %d containers; want one", len(pod.Containers)+len(pod.InitContainers))
	}
	if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser != 65532 ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		wrong("securityContext of the pod is %v; want user 65532, as the image has, and RuntimeDefault", s)
	}
	if s := c.SecurityContext; s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil ||
		!*s.ReadOnlyRootFilesystem || s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") {
		wrong("securityContext of the container is %v; want nothing allowed", s)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		wrong("gets a token of Kubernetes, and needs none")
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		wrong("enableServiceLinks: Services named cairn-… would set variables that are flags'")
	}
	for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q := c.Resources.Requests[resource]; q.IsZero() {
			wrong("requests no %s", resource)
		}
	}
	if request, limit := c.Resources.Requests.Memory(), c.Resources.Limits.Memory(); limit.Cmp(*request) <= 0 {
		wrong("limit of memory is %s; want more than the %s that GOMEMLIMIT is", limit, request)
	}
	if !c.Resources.Limits.Cpu().IsZero() {
		wrong("has a limit of CPU: being throttled is the tail of a claim")
	}
}

// mounted: each mount has its volume.
func mounted(w workload, wrong func(string, ...any)) {
	volumes := map[string]bool{}
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = true
		if v.Secret == nil {
			wrong("volume %s is no secret", v.Name)
			continue
		}
		if secrets[v.Secret.SecretName] == nil {
			wrong("volume %s is of Secret %s, which docs/kubernetes.md does not have made", v.Name, v.Secret.SecretName)
		}
		if v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440 {
			wrong("volume %s: defaultMode is %v; want 0440", v.Name, v.Secret.DefaultMode)
		}
	}
	for _, c := range w.claims {
		volumes[c.Name] = true
	}
	for _, m := range w.container().VolumeMounts {
		if !volumes[m.Name] {
			wrong("mounts %s, which is no volume", m.Name)
		}
	}
	if len(w.container().VolumeMounts) != len(volumes) {
		wrong("has %d volumes and mounts %d", len(volumes), len(w.container().VolumeMounts))
	}
}

// probed: probes ask what the operators' listener serves, at a port that is
// there; what ends a process asks only whether it answers.
func probed(w workload, wrong func(string, ...any)) {
	c := w.container()
	for _, p := range c.Ports {
		if errs := validation.IsValidPortName(p.Name); len(errs) != 0 {
			wrong("port %s: %v", p.Name, errs)
		}
	}
	for what, is := range map[string]struct {
		probe *corev1.Probe
		path  string
	}{"startupProbe": {c.StartupProbe, "/healthz"}, "livenessProbe": {c.LivenessProbe, "/healthz"}, "readinessProbe": {c.ReadinessProbe, "/readyz"}} {
		if is.probe == nil || is.probe.HTTPGet == nil || is.probe.HTTPGet.Path != is.path {
			wrong("%s is %v; want a GET of %s", what, is.probe, is.path)
			continue
		}
		if is.probe.HTTPGet.Port.StrVal != "admin" {
			wrong("%s asks %s; want the operators' port", what, is.probe.HTTPGet.Port.String())
		}
		if _, ok := port(c, is.probe.HTTPGet.Port); !ok {
			wrong("%s asks port %s, which is not there", what, is.probe.HTTPGet.Port.String())
		}
	}
	// What SIGTERM does takes 10 s at most (drainWithin of cmd/cairn), and what
	// comes before it is a part of the grace.
	pre := int64(0)
	if c.Lifecycle != nil {
		if c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil || c.Lifecycle.PostStart != nil {
			wrong("lifecycle is %v; want a preStop of sleep or none: the image has no shell", c.Lifecycle)
			return
		}
		pre = c.Lifecycle.PreStop.Sleep.Seconds
	}
	if grace := w.pod.Spec.TerminationGracePeriodSeconds; grace == nil || *grace < pre+2*10 {
		wrong("terminationGracePeriodSeconds is %v; want %d or more: a preStop of %d s, twice the 10 s of draining", grace, pre+20, pre)
	}
	if (pre > 0) != (w.role() == "gateway") {
		wrong("preStop sleeps %d s; want it of gateways alone: others are in no Service that players use", pre)
	}
}
