// Package keda reads what KEDA's ScaledObjects say: by which figures, and how,
// a role is scaled.
package keda

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/veltrix/cairn/internal/capacity/hpa"
)

// An Object is a ScaledObject.
type Object struct {
	Name     string
	Role     string // of cairn, that the target's name has
	Least    int
	Most     int
	Every    time.Duration // between two looks
	Behavior hpa.Behavior
	Triggers []Trigger
}

// A Trigger is a query whose answer, a sum over all pods, is held against what
// one pod should have.
type Trigger struct {
	Name      string
	Query     string
	Threshold float64 // above 0
}

// document is the form of a ScaledObject, as far as we read it.
type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		ScaleTargetRef  struct{ Name string } `yaml:"scaleTargetRef"`
		PollingInterval int                   `yaml:"pollingInterval"` // seconds
		MinReplicaCount int                   `yaml:"minReplicaCount"`
		MaxReplicaCount int                   `yaml:"maxReplicaCount"`
		Advanced        struct {
			Config struct {
				Behavior struct {
					ScaleUp   *rules `yaml:"scaleUp"`
					ScaleDown *rules `yaml:"scaleDown"`
				}
			} `yaml:"horizontalPodAutoscalerConfig"`
		}
		Triggers []struct {
			Type       string
			Name       string
			MetricType string `yaml:"metricType"`
			Metadata   struct {
				Query     string
				Threshold string
			}
		}
	}
}

type rules struct {
	Stabilization *int   `yaml:"stabilizationWindowSeconds"`
	Select        string `yaml:"selectPolicy"`
	Policies      []struct {
		Type   string
		Value  int
		Period int `yaml:"periodSeconds"`
	}
}

// Read reads a file with one ScaledObject.
func Read(path string) (*Object, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	o, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// Parse parses a ScaledObject. It knows triggers of Prometheus that are an
// AverageValue, and no others.
func Parse(b []byte) (*Object, error) {
	var d document
	if err := yaml.Unmarshal(b, &d); err != nil {
		return nil, err
	}
	if d.Kind != "ScaledObject" || !strings.HasPrefix(d.APIVersion, "keda.sh/") {
		return nil, fmt.Errorf("kind: is %q of %q; want ScaledObject of keda.sh/v1alpha1", d.Kind, d.APIVersion)
	}
	s := &d.Spec
	o := &Object{
		Name: d.Metadata.Name, Role: strings.TrimPrefix(s.ScaleTargetRef.Name, "cairn-"),
		Least: s.MinReplicaCount, Most: s.MaxReplicaCount, Every: time.Duration(s.PollingInterval) * time.Second, Behavior: hpa.DefaultBehavior(),
	}
	s.Advanced.Config.Behavior.ScaleUp.over(&o.Behavior.Up)
	s.Advanced.Config.Behavior.ScaleDown.over(&o.Behavior.Down)
	var errs []error
	if o.Least < 1 || o.Most < o.Least || o.Every <= 0 || len(s.Triggers) == 0 {
		errs = append(errs, fmt.Errorf("spec: %d to %d pods, a look every %v, %d triggers; want 1 or more of each", o.Least, o.Most, o.Every, len(s.Triggers)))
	}
	for _, t := range s.Triggers {
		threshold, err := strconv.ParseFloat(t.Metadata.Threshold, 64)
		if t.Type != "prometheus" || t.MetricType != "AverageValue" || t.Metadata.Query == "" || err != nil || !(threshold > 0) {
			errs = append(errs, fmt.Errorf("triggers: %s: type %q, metricType %q, query %q, threshold %q; want prometheus, AverageValue, a query, and a number above 0", t.Name, t.Type, t.MetricType, t.Metadata.Query, t.Metadata.Threshold))
		}
		o.Triggers = append(o.Triggers, Trigger{t.Name, t.Metadata.Query, threshold})
	}
	return o, errors.Join(errs...)
}

// over puts what the rules say in place of the defaults.
func (r *rules) over(to *hpa.Rules) {
	if r == nil {
		return
	}
	to.Select = r.Select
	if r.Stabilization != nil {
		to.Window = time.Duration(*r.Stabilization) * time.Second
	}
	if len(r.Policies) > 0 {
		to.Policies = nil
	}
	for _, p := range r.Policies {
		to.Policies = append(to.Policies, hpa.Policy{Type: p.Type, Value: p.Value, Period: time.Duration(p.Period) * time.Second})
	}
}
