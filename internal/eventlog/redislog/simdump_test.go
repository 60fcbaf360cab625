package redislog

import (
	"fmt"

	"github.com/veltrix/cairn/internal/eventlog"
)

// dump returns what each node holds, for the trace of a violation.
func (w *sim) dump() {
	if !w.trace {
		return
	}
	for _, n := range w.nodes {
		entries, _ := n.Stream(simKey)
		w.tracef("%s (primary %v, master %s):", n.Addr, n.Primary() == nil, n.master.Addr)
		var before eventlog.Chain
		for _, x := range entries {
			e := toEntry(x)
			torn := ""
			if !e.sealed() {
				if eventlog.NextChain(before, &e.Record) != e.Chain {
					torn = "TORN"
				}
				before = e.Chain
			}
			w.tracef("    %4s %-8v prev %-8v chain %x nonce %x %s", torn, e.Offset, e.Prev, e.Chain[:3], e.Nonce[:2], fmt.Sprintf("%.30q", e.Body))
		}
	}
}
