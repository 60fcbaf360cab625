//go:build !linux

package broadcast

import (
	"context"
	"net"
	"sync"
)

// loops are what serves sockets by readiness elsewhere: there are none here.
type loops struct{}

func (h *Hub) poll(context.Context, *sync.WaitGroup) error { return nil }

func (h *Hub) poach(net.Conn, []byte, Codec, Edge, func(error)) bool { return false }

func (*loops) each(func(recipient)) {}

func (*loops) peers(ps []peer) []peer { return ps }

func (*loops) busy() bool { return false }

func (*loops) check() {}
