package server

import (
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are where the operator's own proxies and balancers are, whose word is
// taken for whom they speak for: X-Forwarded-For. Nobody else's is, for whoever
// could write it would be somebody new with each request.
type Proxies []netip.Prefix

const headerForwarded = "X-Forwarded-For"

// client returns the address of who asks: where the request comes from or, if
// that is a proxy, what it says. Each proxy adds whom it heard from, so it is the
// last address that is not a proxy's itself.
func (p Proxies) client(from netip.Addr, h http.Header) netip.Addr {
	if len(p) == 0 || !p.have(from) {
		return from
	}
	chain := strings.Split(strings.Join(h[headerForwarded], ","), ",")
	for i := len(chain) - 1; i >= 0; i-- {
		a, ok := forwardedAddr(strings.TrimSpace(chain[i]))
		if !ok {
			break // not written by a proxy that we know: all before it may be anything
		}
		if from = a; !p.have(a) {
			break
		}
	}
	return from
}

func (p Proxies) have(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// forwardedAddr reads one address of X-Forwarded-For; some proxies add the port.
func forwardedAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(s)
		a = ap.Addr()
	}
	return a, err == nil
}
