//go:build unix

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// An Identity tells one process from any other, one that gets the same id
// later too.
type Identity struct {
	Pid     int    `json:"pid"`
	Started string `json:"started"` // as the system has it; compared, never read
	Command string `json:"command"` // its arguments, for people
}

// Self returns who the caller's own process is.
func Self() Identity { return Identify(os.Getpid()) }

// Alive reports whether the very process still runs.
func (i Identity) Alive() bool {
	return i.Pid > 0 && i.Started != "" && Identify(i.Pid).Started == i.Started
}

// End kills the process, if it is still that process, and waits until it is
// gone. It reports whether there was one.
func (i Identity) End() (bool, error) {
	if !i.Alive() {
		return false, nil
	}
	if err := syscall.Kill(i.Pid, syscall.SIGKILL); err != nil {
		return false, fmt.Errorf("lab: kill %d (%s): %w", i.Pid, i.Command, err)
	}
	for until := time.Now().Add(patience); i.Alive(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			return true, fmt.Errorf("lab: %d (%s) does not end", i.Pid, i.Command)
		}
	}
	return true, nil
}

// recordName is the file, in a lab's folder, with an Identity a line for each
// process that was started in it.
const recordName = "processes.jsonl"

// record notes who was started, so that Sweep finds it whatever happens to us.
func (l *Lab) record(id Identity) error {
	line, err := json.Marshal(id)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.Dir, recordName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// Sweep ends what is left of a lab whose program is gone, as EndAll does, and
// removes its folder. A folder that is gone is no error; one that is not a
// lab's is left alone.
func Sweep(dir string) (int, error) {
	n, err := EndAll(dir)
	if err != nil {
		return n, err
	}
	return n, remove(dir)
}

// EndAll kills those processes of a lab that still run, told by more than their
// ids, and returns how many there were.
func EndAll(dir string) (int, error) {
	if !strings.HasPrefix(filepath.Base(dir), dirPrefix) {
		return 0, fmt.Errorf("lab: %s is not the folder of a lab; want one named %s…", dir, dirPrefix)
	}
	text, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := 0
	var errs []error
	for line := range strings.Lines(string(text)) {
		var id Identity
		if json.Unmarshal([]byte(line), &id) != nil {
			continue // cut short by a crash: that process was ended by the kernel
		}
		ended, err := id.End()
		if ended {
			n++
		}
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}
