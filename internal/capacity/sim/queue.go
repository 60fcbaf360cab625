package sim

import "container/heap"

// What happens.
type kind uint8

const (
	tick    kind = iota // a second passes
	poll                // the autoscaler looks
	arrive              // a client tries to be let in
	ready               // a pod has started
	drained             // a pod has ended
)

// An event is one thing that happens. Of those of one moment, the one that was
// planned first is first.
type event struct {
	at    float64 // seconds
	seq   uint64
	kind  kind
	pod   *pod
	since float64 // of a client: when it first tried
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func (s *simulation) plan(at float64, k kind, p *pod, since float64) {
	s.seq++
	heap.Push(&s.queue, event{at, s.seq, k, p, since})
}
