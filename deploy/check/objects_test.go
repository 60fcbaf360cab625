package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	strictjson "sigs.k8s.io/json"
)

// overlays are what is applied.
var overlays = []string{"production", "small"}

func overlayDir(name string) string { return filepath.Join("..", "kubernetes", "overlays", name) }

// types are all that may be in an overlay.
var types = map[string]func() any{
	"v1 Namespace":                       func() any { return new(corev1.Namespace) },
	"v1 ConfigMap":                       func() any { return new(corev1.ConfigMap) },
	"v1 Service":                         func() any { return new(corev1.Service) },
	"apps/v1 Deployment":                 func() any { return new(appsv1.Deployment) },
	"apps/v1 StatefulSet":                func() any { return new(appsv1.StatefulSet) },
	"policy/v1 PodDisruptionBudget":      func() any { return new(policyv1.PodDisruptionBudget) },
	"networking.k8s.io/v1 NetworkPolicy": func() any { return new(networkingv1.NetworkPolicy) },
	"keda.sh/v1alpha1 ScaledObject":      func() any { return new(scaledObject) },
}

// An object is a document of a rendered overlay.
type object struct {
	kind, name string
	json       []byte
	typed      any // pointer to its type
}

func (o object) String() string { return o.kind + " " + o.name }

// decode decodes a document by its type. A field that the type does not have,
// by exactly this name, is an error, and so is one that is there twice.
func decode(doc []byte) (object, error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return object{}, err
	}
	o := object{kind: head.Kind, name: head.Metadata.Name, json: doc}
	of, ok := types[head.APIVersion+" "+head.Kind]
	if !ok {
		return o, fmt.Errorf("%s: a %s %s; want one of %s", o.name, head.APIVersion, head.Kind, strings.Join(slices.Sorted(maps.Keys(types)), ", "))
	}
	o.typed = of()
	if so, ok := o.typed.(*scaledObject); ok {
		if err := so.decode(doc); err != nil {
			return o, fmt.Errorf("%s: %w", o, err)
		}
		return o, nil
	}
	strict, err := strictjson.UnmarshalStrict(doc, o.typed)
	if err := errors.Join(append(strict, err)...); err != nil {
		return o, fmt.Errorf("%s: %w", o, err)
	}
	return o, nil
}

// render renders an overlay as kubectl does.
func render(t *testing.T, overlay string) (docs [][]byte) {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlayDir(overlay))
	if err != nil {
		t.Fatalf("%s: %v", overlay, err)
	}
	for _, r := range m.Resources() {
		doc, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, doc)
	}
	return docs
}

// objects renders an overlay and decodes it.
func objects(t *testing.T, overlay string) (all []object) {
	t.Helper()
	for _, doc := range render(t, overlay) {
		o, err := decode(doc)
		if err != nil {
			t.Fatalf("%s: %v", overlay, err)
		}
		all = append(all, o)
	}
	return all
}

// of returns the objects of a type.
func of[T any](all []object) (some []*T) {
	for _, o := range all {
		if typed, ok := o.typed.(*T); ok {
			some = append(some, typed)
		}
	}
	return some
}

// TestDecodes: each overlay renders, has every role, and nothing but what
// Kubernetes and KEDA know.
func TestDecodes(t *testing.T) {
	for _, overlay := range overlays {
		all := objects(t, overlay)
		has := map[string]bool{}
		for _, o := range all {
			if has[o.String()] {
				t.Errorf("%s: %s is there twice", overlay, o)
			}
			has[o.String()] = true
		}
		for _, want := range []string{"Deployment cairn-generator", "StatefulSet cairn-claims", "Deployment cairn-gateway", "StatefulSet cairn-leaderboard", "Deployment cairn-rewards"} {
			if !has[want] {
				t.Errorf("%s: no %s", overlay, want)
			}
			name := want[strings.Index(want, " ")+1:]
			if !has["PodDisruptionBudget "+name] {
				t.Errorf("%s: no PodDisruptionBudget %s", overlay, name)
			}
		}
		for _, name := range []string{"cairn-gateway", "cairn-claims", "cairn-rewards"} {
			if got, want := has["ScaledObject "+name], overlay == "production"; got != want {
				t.Errorf("%s: has a ScaledObject %s: %v; want %v", overlay, name, got, want)
			}
		}
		for _, o := range all {
			if o.kind == "Secret" {
				t.Errorf("%s: %s: secrets are made by the operator, and never in a repository", overlay, o)
			}
		}
	}
}

// free are maps whose keys are anybody's.
var free = []string{"labels", "annotations", "matchLabels", "data", "requests", "limits"}

// TestMisspelt: no key of any document can be misspelt in silence.
func TestMisspelt(t *testing.T) {
	tried := map[string]bool{}
	for _, doc := range render(t, "production") {
		o, err := decode(doc)
		if err != nil {
			t.Fatal(err)
		}
		var whole any
		if err := json.Unmarshal(doc, &whole); err != nil {
			t.Fatal(err)
		}
		misspell(whole, "", func(path string) {
			if tried[o.kind+path] || path == ".kind" || path == ".apiVersion" {
				return
			}
			tried[o.kind+path] = true
			wrong, err := json.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decode(wrong); err == nil {
				t.Errorf("%s: %s was misspelt, and nobody noticed", o, path)
			}
		})
	}
	if len(tried) < 200 {
		t.Errorf("%d keys were tried; want hundreds", len(tried))
	}
}

// misspell changes one key after the other under at, calls with its path, and
// changes it back.
func misspell(at any, path string, with func(path string)) {
	switch at := at.(type) {
	case []any:
		for _, v := range at {
			misspell(v, path, with)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(at)) {
			v := at[key]
			// The first letter as a capital: decoders that are not strict take it.
			for _, wrong := range []string{key + "s", strings.ToUpper(key[:1]) + key[1:]} {
				delete(at, key)
				at[wrong] = v
				with(path + "." + key)
				delete(at, wrong)
				at[key] = v
			}
			freely := slices.Contains(free, key) || key == "selector" && path == ".spec" && isText(v) || key == "metadata" && path == ".spec.triggers"
			if !freely {
				misspell(v, path+"."+key, with)
			}
		}
	}
}

// isText reports whether v is a map of strings, as a Service's selector is.
func isText(v any) bool {
	m, ok := v.(map[string]any)
	for _, v := range m {
		if _, text := v.(string); !text {
			return false
		}
	}
	return ok
}

// read reads a file under the repository's root.
func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
