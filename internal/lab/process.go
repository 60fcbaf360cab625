//go:build unix

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// tailLines is how much of a log an error shows.
const tailLines = 15

// A Process is a program that the lab runs, and may run again with the same
// arguments: the same Process, another id. Its methods may be called
// concurrently.
type Process struct {
	Name string // unique in the lab, such as claims-2
	Log  string // file with what it printed, all its lives one after the other

	lab  *Lab
	argv []string // of the next start
	dir  string   // where it runs
	env  []string // nil means ours
	as   *syscall.Credential

	mu     sync.Mutex
	life   *life // the last one; nil before the first
	starts int
}

// A life is one run of a process.
type life struct {
	id     Identity
	handle *os.Process // signals it and never another, even as it ends
	since  time.Time
	logAt  int64         // length of the log when it began
	ended  chan struct{} // closed when it has
	err    error         // of Wait; after ended
	paused bool          // under the process' mu
}

func (l *life) over() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// process makes a Process that is not started yet.
func (l *Lab) process(name string, argv []string) *Process {
	return &Process{Name: name, Log: filepath.Join(l.Dir, name+".log"), lab: l, argv: argv, dir: l.Dir}
}

// start runs the process, unless it runs.
func (p *Process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil && !p.life.over() {
		return fmt.Errorf("lab: %s runs already, as %d", p.Name, p.life.id.Pid)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, log, log
	// In a group of its own, a Ctrl-C on the terminal does not reach it: whoever
	// started the lab decides in which order its parts end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.as}
	endWithParent(cmd.SysProcAttr)
	l := &life{since: time.Now(), logAt: info.Size(), ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ends the process with the thread that started it, which
		// must therefore live as long.
		runtime.LockOSThread()
		defer close(l.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			l.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("lab: %s: %w", p.Name, err)
	}
	l.id, l.handle = Identify(cmd.Process.Pid), cmd.Process
	p.life = l
	p.starts++
	return p.lab.started(p, l)
}

// started notes a process that has just started. One that comes too late, when
// the lab is closed, is killed.
func (l *Lab) started(p *Process, life *life) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = life.handle.Kill() // it may have ended by itself
		<-life.ended
		return fmt.Errorf("lab: %s: the lab is closed", p.Name)
	}
	known := false
	for _, q := range l.processes {
		known = known || q == p
	}
	if !known {
		l.processes = append(l.processes, p)
	}
	return l.record(life.id)
}

func (p *Process) current() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life
}

// Running reports whether the process runs; one that is paused does.
func (p *Process) Running() bool {
	l := p.current()
	return l != nil && !l.over()
}

// Paused reports whether the process runs, and is stopped by Pause.
func (p *Process) Paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life != nil && !p.life.over() && p.life.paused
}

// Pid returns the process' id, or 0 if it does not run.
func (p *Process) Pid() int {
	if l := p.current(); l != nil && !l.over() {
		return l.id.Pid
	}
	return 0
}

// Since returns when the process was started last.
func (p *Process) Since() time.Time {
	if l := p.current(); l != nil {
		return l.since
	}
	return time.Time{}
}

// Starts returns how many times the process was started.
func (p *Process) Starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// Done returns a channel that is closed when the present life of the process
// has ended, and at once if there was none.
func (p *Process) Done() <-chan struct{} {
	if l := p.current(); l != nil {
		return l.ended
	}
	before := make(chan struct{})
	close(before)
	return before
}

// Tail returns the last lines that the process printed.
func (p *Process) Tail(lines int) string { return tail(p.Log, lines) }

// signal sends a signal to the process and, if so asked, to what it started.
// One that has ended gets none, and its id is never used for another.
func (p *Process) signal(sig syscall.Signal, children bool) (*life, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.life
	if l == nil || l.over() {
		return l, nil
	}
	var below []int
	if children {
		below = childrenOf(l.id.Pid)
	}
	if err := l.handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return l, fmt.Errorf("lab: %s: %v: %w", p.Name, sig, err)
	}
	for _, pid := range below {
		_ = syscall.Kill(pid, sig) // it may end meanwhile
	}
	switch sig {
	case syscall.SIGSTOP:
		l.paused = true
	case syscall.SIGCONT:
		l.paused = false
	}
	return l, nil
}

// Kill ends the process and what it started, as kill -9 does, and returns when
// it is gone. One that does not run is left so.
func (p *Process) Kill() error {
	l, err := p.signal(syscall.SIGKILL, true)
	if err != nil || l == nil {
		return err
	}
	<-l.ended
	return nil
}

// Pause stops the process and what it started, connections open, until
// Continue. It returns when the process has stopped.
func (p *Process) Pause() error {
	l, err := p.signal(syscall.SIGSTOP, true)
	if err != nil || l == nil {
		return err
	}
	for until := time.Now().Add(patience); !stopped(l.id.Pid) && !l.over(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			return fmt.Errorf("lab: %s does not stop", p.Name)
		}
	}
	return nil
}

// Continue undoes Pause.
func (p *Process) Continue() error {
	_, err := p.signal(syscall.SIGCONT, true)
	return err
}

// Interrupt asks the process to end, as Ctrl-C does, and does not wait.
func (p *Process) Interrupt() error {
	_, err := p.signal(syscall.SIGINT, false)
	return err
}

// Wait waits until the process has ended, and returns how: nil, or an
// [exec.ExitError].
func (p *Process) Wait(ctx context.Context) error {
	l := p.current()
	if l == nil {
		return nil
	}
	select {
	case <-l.ended:
		return l.err
	case <-ctx.Done():
		return fmt.Errorf("lab: %s still runs: %w", p.Name, ctx.Err())
	}
}

// Stop ends the process in good order: it continues it if it is paused,
// interrupts it and waits. One that has not ended when ctx does is killed, and
// that is an error, as is an exit code other than 0.
func (p *Process) Stop(ctx context.Context) error { return p.stop(ctx, syscall.SIGINT) }

func (p *Process) stop(ctx context.Context, sig syscall.Signal) error {
	err := p.interrupt(ctx, sig)
	if p.Running() {
		return errors.Join(err, p.Kill())
	}
	return err
}

// interrupt asks the process to end, by sig, and waits as long as ctx.
func (p *Process) interrupt(ctx context.Context, sig syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	_, err := p.signal(sig, false)
	if err := errors.Join(err, p.Continue()); err != nil {
		return err
	}
	if err = p.Wait(ctx); err != nil && !p.Running() {
		return fmt.Errorf("lab: %s: %w\n%s", p.Name, err, p.Tail(tailLines))
	}
	return err
}

// until calls f every few milliseconds until it reports true or fails. It is
// an error, with the end of the log, that the process ends or ctx does.
func (p *Process) until(ctx context.Context, what string, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		select {
		case <-p.Done():
			return fmt.Errorf("lab: %s has ended before it %s (%w); its log ends:\n%s", p.Name, what, p.Wait(ctx), p.Tail(tailLines))
		case <-ctx.Done():
			return fmt.Errorf("lab: %s has not yet %s (%w); its log ends:\n%s", p.Name, what, ctx.Err(), p.Tail(tailLines))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
