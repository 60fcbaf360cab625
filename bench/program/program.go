// Package program is what benchmarks have in common as commands: how they begin
// and end, read flags, find the repository, wait, and say how far they are.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// ErrUsage says that the program was used wrongly.
var ErrUsage = errors.New("used wrongly")

// Main runs a program with its arguments until it ends, or a Ctrl-C ends its
// context. It exits with 2 for an [ErrUsage], whose text it prints behind the
// program's name, and with 1 for any other error but [flag.ErrHelp].
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	if errors.Is(err, ErrUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// Parse parses flags. Its error is an [ErrUsage], of which flag has said why, or
// [flag.ErrHelp].
func Parse(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return ErrUsage
}

// Repository returns the folder of the main module.
func Repository() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/veltrix/cairn").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w; want to be run in the repository", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Sleep waits, at most until ctx ends, whose error it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

var began = time.Now()

// Say tells people how far it is, behind the time since the program began.
func Say(format string, args ...any) { SayTo(os.Stdout, format, args...) }

// SayTo is Say to w.
func SayTo(w io.Writer, format string, args ...any) {
	d := time.Since(began)
	fmt.Fprintf(w, "%3d:%02d  %s\n", int(d.Minutes()), int(d.Seconds())%60, fmt.Sprintf(format, args...))
}
