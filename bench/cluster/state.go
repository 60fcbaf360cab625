//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/veltrix/cairn/internal/lab"
)

// A state says what up started: who it is, and in which folder each process
// that it started is noted.
type state struct {
	Launcher lab.Identity `json:"launcher"`
	Dir      string       `json:"dir"`
	Keep     bool         `json:"keep,omitempty"`   // leave Dir where it is
	Log      string       `json:"log,omitempty"`    // the logs' URL, once there
	Ledger   string       `json:"ledger,omitempty"` // the ledger's DSN
	Play     []string     `json:"play,omitempty"`   // the gateways' URLs
}

// errNone is what there is when nothing was started, or all was ended.
var errNone = errors.New("nothing runs")

func readState(path string) (state, error) {
	var s state
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, errNone
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w; remove it if it is not up's", path, err)
	}
	return s, nil
}

// write replaces the file as a whole: down never sees half of it.
func (s state) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// drainWithin bounds how long a launcher that is told to end may take.
const drainWithin = time.Minute

// Run ends what the state file tells of, and says what it found.
func (d downCmd) Run() error {
	s, err := readState(d.State)
	if errors.Is(err, errNone) {
		fmt.Println("nothing runs")
		return nil
	}
	if err != nil {
		return err
	}
	if s.Launcher.Alive() {
		fmt.Printf("draining, by process %d …\n", s.Launcher.Pid)
		if err := syscall.Kill(s.Launcher.Pid, syscall.SIGTERM); err != nil {
			return fmt.Errorf("process %d: %w", s.Launcher.Pid, err)
		}
		for until := time.Now().Add(drainWithin); s.Launcher.Alive() && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
			continue
		}
		if killed, err := s.Launcher.End(); err != nil {
			return err
		} else if killed {
			fmt.Printf("process %d had not ended within %v, and was killed\n", s.Launcher.Pid, drainWithin)
		}
	} else {
		fmt.Println("its launcher is gone")
	}
	// What is left: nothing, if the launcher ended in good order.
	sweep := lab.Sweep
	if s.Keep {
		sweep = lab.EndAll
	}
	n, err := sweep(s.Dir)
	if err != nil {
		return err
	}
	if n > 0 {
		fmt.Printf("ended %d processes that were left\n", n)
	}
	if err := os.Remove(d.State); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Println("down: nothing is left")
	return nil
}
