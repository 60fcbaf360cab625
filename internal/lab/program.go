//go:build unix

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// A Program is something that the lab runs and knows nothing of.
type Program struct {
	Name string // unique in the lab
	Argv []string
	Env  []string // added to ours, each NAME=VALUE

	// Ready is asked every few milliseconds until it reports true; nil means
	// that the program is ready when it runs. It may read [Process.Log].
	Ready func(*Process) (bool, error)
}

// StartProgram starts a program in a folder of its own and waits until it is
// ready. What it printed is in the Log of its process.
func (l *Lab) StartProgram(ctx context.Context, p Program) (*Process, error) {
	if len(p.Argv) == 0 {
		return nil, fmt.Errorf("lab: %s: there is nothing to run; want its arguments, the path first", p.Name)
	}
	dir, err := l.folder(p.Name)
	if err != nil {
		return nil, err
	}
	proc := l.process(p.Name, p.Argv)
	proc.dir = dir
	if p.Env != nil {
		proc.env = append(os.Environ(), p.Env...)
	}
	err = proc.start()
	if err == nil && p.Ready != nil {
		err = proc.until(ctx, "said that it is ready", func() (bool, error) { return p.Ready(proc) })
	}
	if err != nil {
		return nil, errors.Join(err, proc.Kill())
	}
	return proc, nil
}

// Folder makes a folder of the lab, for what a program needs.
func (l *Lab) Folder(name string) (string, error) { return l.folder(name) }

// FreePort returns a port of the loopback that nobody listens on, and that the
// lab gives to nobody else.
func (l *Lab) FreePort() (int, error) { return freePort() }
