package broadcast

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A uring writes to many sockets in one system call, by
// io_uring(7). What a send costs beyond the kernel's TCP is entering the kernel
// and leaving it, a quarter of the whole; a batch does that once. All sends are
// non-blocking and end within the call that submits them: nothing is ever in
// flight. One goroutine at a time.
type uring struct {
	fd       int
	rings    []byte // the memory shared with the kernel
	sqesMem  []byte
	sqTail   *uint32
	sqMask   uint32
	sqes     []uringSQE
	cqHead   *uint32
	cqTail   *uint32
	cqMask   uint32
	cqes     []uringCQE
	inBatch  int    // added and not yet submitted
	tailNext uint32 // what sqTail is to be
}

// uringEntries is how many sends a batch has at most.
const uringEntries = 64

// From linux/io_uring.h.
const (
	uringOpSendmsg      = 9
	uringOpSend         = 26
	uringEnterGetEvents = 1 << 0
	uringFeatSingleMmap = 1 << 0
	uringFeatNoDrop     = 1 << 1
	uringFeatRWCurPos   = 1 << 3 // as old as sends
	uringOffSQEs        = 0x10000000
)

type uringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
		userAddr                                                    uint64
	}
	cq struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
		userAddr                                                    uint64
	}
}

type uringSQE struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	off           uint64
	addr          uint64
	len           uint32
	msgFlags      uint32
	userData      uint64
	_             [3]uint64
}

type uringCQE struct {
	userData uint64
	res      int32
	flags    uint32
}

// newUring returns a ring, or an error where the kernel has none or may not be
// asked for one, as in many containers.
func newUring() (*uring, error) {
	var p uringParams
	fd, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, uringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("broadcast: io_uring: %w", errno)
	}
	u := &uring{fd: int(fd)}
	if want := uint32(uringFeatSingleMmap | uringFeatNoDrop | uringFeatRWCurPos); p.features&want != want {
		u.close()
		return nil, fmt.Errorf("broadcast: io_uring: the kernel's is of before 5.6")
	}
	sqLen := int(p.sq.array + p.sqEntries*4)
	cqLen := int(p.cq.cqes + p.cqEntries*uint32(unsafe.Sizeof(uringCQE{})))
	var err error
	if u.rings, err = u.mmap(0, max(sqLen, cqLen)); err == nil {
		u.sqesMem, err = u.mmap(uringOffSQEs, int(p.sqEntries)*int(unsafe.Sizeof(uringSQE{})))
	}
	if err != nil {
		u.close()
		return nil, fmt.Errorf("broadcast: io_uring: mmap: %w", err)
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&u.rings[off])) }
	u.sqTail, u.sqMask = at(p.sq.tail), *at(p.sq.ringMask)
	u.cqHead, u.cqTail, u.cqMask = at(p.cq.head), at(p.cq.tail), *at(p.cq.ringMask)
	u.sqes = unsafe.Slice((*uringSQE)(unsafe.Pointer(&u.sqesMem[0])), p.sqEntries)
	u.cqes = unsafe.Slice((*uringCQE)(unsafe.Pointer(&u.rings[p.cq.cqes])), p.cqEntries)
	for i, array := uint32(0), unsafe.Slice(at(p.sq.array), p.sqEntries); i < p.sqEntries; i++ {
		array[i] = i // entry i is always in slot i
	}
	u.tailNext = *u.sqTail
	return u, nil
}

func (u *uring) mmap(off int64, n int) ([]byte, error) {
	return unix.Mmap(u.fd, off, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
}

func (u *uring) close() {
	if u.rings != nil {
		_ = unix.Munmap(u.rings)
	}
	if u.sqesMem != nil {
		_ = unix.Munmap(u.sqesMem)
	}
	unix.Close(u.fd)
}

// add puts the write of o, of iovMax buffers at most, to a socket into the
// batch, which has room for uringEntries. o must stay as it is until submit
// returns. name is what submit calls it.
func (u *uring) add(name, fd int, o *out) {
	e := &u.sqes[u.tailNext&u.sqMask]
	*e = uringSQE{opcode: uringOpSend, fd: int32(fd), msgFlags: sendFlags, userData: uint64(name)}
	if len(o.iov) == 1 {
		e.addr, e.len = uint64(uintptr(unsafe.Pointer(o.iov[0].Base))), uint32(o.iov[0].Len)
	} else {
		o.setMsg(o.iov)
		e.opcode, e.addr, e.len = uringOpSendmsg, uint64(uintptr(unsafe.Pointer(&o.msg))), 1
	}
	u.tailNext++
	u.inBatch++
}

// submit sends the batch, and calls done with how each send of it ended, by
// name, in any order. None is left in flight.
func (u *uring) submit(done func(name, n int, errno syscall.Errno)) {
	atomic.StoreUint32(u.sqTail, u.tailNext)
	left, unseen := u.inBatch, u.inBatch
	u.inBatch = 0
	for left > 0 {
		// Non-blocking sends end as they are submitted: this can't block.
		n, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(u.fd), uintptr(unseen), uintptr(left), uringEnterGetEvents, 0, 0)
		if errno == 0 {
			unseen -= int(n)
		} else if errno != unix.EINTR && errno != unix.EAGAIN && errno != unix.EBUSY {
			panic(fmt.Sprintf("broadcast: io_uring_enter: %v", errno)) // of a batch that is well-formed
		}
		head := *u.cqHead
		for tail := atomic.LoadUint32(u.cqTail); head != tail; head++ {
			c := &u.cqes[head&u.cqMask]
			left--
			if c.res < 0 {
				done(int(c.userData), 0, syscall.Errno(-c.res))
			} else {
				done(int(c.userData), int(c.res), 0)
			}
		}
		atomic.StoreUint32(u.cqHead, head)
	}
}
