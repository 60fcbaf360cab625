package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// A scaledObject is what these tests look at of KEDA's. That it has no more than
// KEDA knows is held by KEDA's own schema: its Go types come with a Kubernetes
// client and a controller's runtime, some 800 packages.
type scaledObject struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		ScaleTargetRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount *int32    `json:"minReplicaCount"`
		MaxReplicaCount *int32    `json:"maxReplicaCount"`
		Fallback        *fallback `json:"fallback"`
		Advanced        struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
		Triggers []trigger `json:"triggers"`
	} `json:"spec"`
}

type fallback struct {
	FailureThreshold int32  `json:"failureThreshold"`
	Replicas         int32  `json:"replicas"`
	Behavior         string `json:"behavior"`
}

type trigger struct {
	Type       string                         `json:"type"`
	Name       string                         `json:"name"`
	MetricType autoscalingv2.MetricTargetType `json:"metricType"`
	Metadata   map[string]string              `json:"metadata"`
}

// decode decodes a document that KEDA's schema takes.
func (s *scaledObject) decode(doc []byte) error {
	of, err := scaledObjects()
	if err != nil {
		return err
	}
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		return err
	}
	return errors.Join(errors.Join(of.wrong(v, "")...), json.Unmarshal(doc, s))
}

// A schema is the part of OpenAPI that KEDA's definition is written in.
type schema struct {
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Enum                 []any              `json:"enum"`
	Minimum              *float64           `json:"minimum"`
	MinLength            int                `json:"minLength"`
	MinItems             int                `json:"minItems"`
	Required             []string           `json:"required"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	IntOrString          bool               `json:"x-kubernetes-int-or-string"`

	// Known, and of no use here.
	Description string `json:"description"`
	Default     any    `json:"default"`
	Pattern     string `json:"pattern"` // of quantities
	AnyOf       []any  `json:"anyOf"`   // of what is an integer or a string
	ListType    string `json:"x-kubernetes-list-type"`
	Validations []any  `json:"x-kubernetes-validations"` // rules in CEL
	MapType     string `json:"x-kubernetes-map-type"`
}

// KEDA's release, and what its module's content is hashed to (go.sum's h1): it
// is fetched as a module is, but none of its packages is built.
const (
	keda    = "github.com/kedacore/keda/v2"
	release = keda + "@v2.21.0"
	hash    = "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps="
)

// definition returns what KEDA's release has an API server hold a ScaledObject
// against.
func definition() ([]byte, error) {
	cmd := exec.Command("go", "mod", "download", "-json", release)
	cmd.Env = append(os.Environ(), "GONOSUMDB="+keda) // its hash is here
	out, err := cmd.Output()
	var module struct{ Dir, Sum, Error string }
	if e := json.Unmarshal(out, &module); e != nil || module.Error != "" {
		return nil, fmt.Errorf("go mod download %s: %w: %s", release, errors.Join(err, e), module.Error)
	}
	if module.Sum != hash {
		return nil, fmt.Errorf("%s has the hash %s; want %s", release, module.Sum, hash)
	}
	return os.ReadFile(filepath.Join(module.Dir, "config", "crd", "bases", "keda.sh_scaledobjects.yaml"))
}

// scaledObjects returns the schema of a ScaledObject.
var scaledObjects = sync.OnceValues(func() (*schema, error) {
	text, err := definition()
	if err != nil {
		return nil, err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string `json:"name"`
				Schema struct {
					OpenAPIV3Schema *json.RawMessage `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return nil, err
	}
	if len(crd.Spec.Versions) != 1 || crd.Spec.Versions[0].Name != "v1alpha1" {
		return nil, fmt.Errorf("KEDA's definition has %d versions; want v1alpha1 alone", len(crd.Spec.Versions))
	}
	s := new(schema)
	// Strict, so that no part of the schema is passed over.
	if err := yaml.UnmarshalStrict(*crd.Spec.Versions[0].Schema.OpenAPIV3Schema, s); err != nil {
		return nil, err
	}
	s.Properties["metadata"] = nil // Kubernetes' own
	return s, nil
})

// wrong returns what is wrong with v, as an API server that is asked to be
// strict (fieldValidation=Strict) has it.
func (s *schema) wrong(v any, path string) (errs []error) {
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{path}, args...)...))
	}
	if s == nil { // metadata
		data, err := json.Marshal(v)
		if err == nil {
			err = yaml.UnmarshalStrict(data, new(metav1.ObjectMeta))
		}
		if err != nil {
			wrong("%w", err)
		}
		return errs
	}
	if len(s.Enum) != 0 && !slices.Contains(s.Enum, v) {
		wrong("is %v; want one of %v", v, s.Enum)
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			wrong("is an object; want %s", s.Type)
			return errs
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				wrong("has no %s", name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			is, known := s.Properties[name]
			if !known && s.AdditionalProperties != nil {
				is, known = s.AdditionalProperties, true
			}
			if !known {
				wrong("%s is not known; want one of %s", name, strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", "))
				continue
			}
			errs = append(errs, is.wrong(v[name], path+"."+name)...)
		}
	case []any:
		if s.Type != "array" {
			wrong("is a list; want %s", s.Type)
			return errs
		}
		if len(v) < s.MinItems {
			wrong("has %d items; want %d or more", len(v), s.MinItems)
		}
		for i, item := range v {
			errs = append(errs, s.Items.wrong(item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	case string:
		switch {
		case s.Type != "string" && !s.IntOrString:
			wrong("is %q; want %s", v, s.Type)
		case len(v) < s.MinLength:
			wrong("is %q; want %d characters or more", v, s.MinLength)
		}
	case bool:
		if s.Type != "boolean" {
			wrong("is %v; want %s", v, s.Type)
		}
	case float64:
		switch {
		case s.Type != "integer" && s.Type != "number" && !s.IntOrString, s.Type == "integer" && v != math.Trunc(v):
			wrong("is %v; want %s", v, s.Type)
		case s.Minimum != nil && v < *s.Minimum:
			wrong("is %v; want %v or more", v, *s.Minimum)
		}
	default:
		wrong("is %v; want %s", v, s.Type)
	}
	return errs
}

// TestSchema: values that KEDA does not take are found.
func TestSchema(t *testing.T) {
	var doc []byte
	for _, d := range render(t, "production") {
		if o, err := decode(d); err == nil && o.kind == "ScaledObject" {
			doc = d
		}
	}
	for from, to := range map[string]string{
		`"AverageValue"`:            `"Average"`,              // an enum of HPA's is not in the schema: metricType is a string
		`"currentReplicasIfHigher"`: `"neverFewer"`,           //
		`"failureThreshold":4`:      `"failureThreshold":"4"`, //
		`"maxReplicaCount":6`:       `"maxReplicaCount":6.5`,  //
		`"scaleTargetRef":`:         `"scaleTarget":`,         //
		`"threshold":"2000"`:        `"threshold":2000`,       // all of a trigger's metadata are strings
	} {
		if !strings.Contains(string(doc), from) {
			t.Fatalf("no %s in %s", from, doc)
		}
		if _, err := decode([]byte(strings.Replace(string(doc), from, to, 1))); (err == nil) != (to == `"Average"`) {
			t.Errorf("with %s: %v", to, err)
		}
	}
}
