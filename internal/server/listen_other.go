//go:build !linux

package server

import (
	"net"
	"syscall"
)

const sharesPorts = false

func tuneListener(bool) func(network, address string, c syscall.RawConn) error { return nil }

func sharePort(net.Listener) error { return nil }
