//go:build !linux

package broadcast

import (
	"errors"
	"net"
	"syscall"
)

var errWouldBlock = errors.New("broadcast: socket takes nothing now")

type attempt struct{}

func (*attempt) init() {}

// rawConn has nothing to offer here: each write gets a goroutine for as long as
// it takes.
func rawConn(net.Conn) syscall.RawConn { return nil }

func (c *conn) try() error { return errWouldBlock }
