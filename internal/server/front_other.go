//go:build !linux

package server

import "net"

// Front returns ln: elsewhere than on Linux all handshakes are net/http's.
func (s *Server) Front(ln net.Listener) net.Listener { return ln }
