package keda

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/veltrix/cairn/internal/capacity/hpa"
)

const object = `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: cairn-claims}
spec:
  scaleTargetRef: {kind: StatefulSet, name: cairn-claims}
  pollingInterval: 15
  minReplicaCount: 3
  maxReplicaCount: 12
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: 600
          selectPolicy: Min
          policies:
            - {type: Pods, value: 1, periodSeconds: 120}
  triggers:
    - type: prometheus
      name: attempts
      metricType: AverageValue
      metadata: {serverAddress: "http://prometheus:9090", query: "sum(a)", threshold: "0.6", ignoreNullValues: "false"}
`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	want := &Object{
		Name: "cairn-claims", Role: "claims", Least: 3, Most: 12, Every: 15 * time.Second,
		Behavior: hpa.Behavior{
			Up:   hpa.DefaultBehavior().Up,
			Down: hpa.Rules{Window: 10 * time.Minute, Select: "Min", Policies: []hpa.Policy{{Type: "Pods", Value: 1, Period: 2 * time.Minute}}},
		},
		Triggers: []Trigger{{"attempts", "sum(a)", 0.6}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ from, to, names string }{
		{"ScaledObject", "ScaledJob", "kind"},
		{"AverageValue", "Value", "attempts"},
		{`"0.6"`, `"0"`, "threshold"},
		{"minReplicaCount: 3", "minReplicaCount: 0", "0 to 12"},
	} {
		if _, err := Parse([]byte(strings.Replace(object, c.from, c.to, 1))); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("with %s: got %v, want an error that names %q", c.to, err, c.names)
		}
	}
}

// TestOurs reads those that are shipped.
func TestOurs(t *testing.T) {
	files, err := filepath.Glob("../../../deploy/kubernetes/base/scale-*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("got %v (%v), want those of gateways and claims at least", files, err)
	}
	for _, f := range files {
		o, err := Read(f)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := "scale-" + o.Role + ".yaml"; filepath.Base(f) != want {
			t.Errorf("%s scales %s, want its name to be %s", f, o.Role, want)
		}
	}
}
