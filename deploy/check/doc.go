// Package check holds that what is in deploy can be deployed. There is no
// cluster and no Docker engine in it: its tests render the overlays as
// `kubectl apply -k` does, decode every document by the types of Kubernetes and
// KEDA, without a field that these don't know, hold the documents against each
// other, against the rules of Prometheus and against cairn plan, and run each
// container's command, with its own environment and probes, on real stores.
//
// It is a module of its own: what it needs is not ours.
package check
