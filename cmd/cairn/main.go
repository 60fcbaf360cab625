// Command cairn is the real-time treasure hunt engine: the whole game in one
// process (cairn up) or a process a role, its operator's tools, and its load
// generator.
//
// This package is the only wiring. It reads flags, environment and files,
// opens backends, and hands rooms to each other; the rules of the game are
// not known here.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

type cli struct {
	Config    configFlag `help:"Read flags from this YAML or JSON file: one key a flag." placeholder:"FILE"`
	LogLevel  string     `help:"Least level to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
	LogFormat string     `help:"How to log: text, json, or auto (text on a terminal, else json)." enum:"auto,text,json" default:"auto"`

	Up upCmd `cmd:"" help:"Start the whole game in one process."`

	Generator   generatorCmd   `cmd:"" group:"Roles of a fleet" help:"Emit a map a tick; of several processes one does."`
	Claims      claimsCmd      `cmd:"" group:"Roles of a fleet" help:"Own shards and grant tiles."`
	Gateway     gatewayCmd     `cmd:"" group:"Roles of a fleet" help:"Serve players and tell those who watch."`
	Leaderboard leaderboardCmd `cmd:"" group:"Roles of a fleet" help:"Fold standings, publish boards and trim the logs."`
	Rewards     rewardsCmd     `cmd:"" group:"Roles of a fleet" help:"Settle claims in the ledger."`

	Log     logCmd      `cmd:"" help:"Provision and show the logs in Redis."`
	Hunt    huntCmd     `cmd:"" help:"Create, list and steer hunts through the operator's API."`
	Load    loadCmd     `cmd:"" help:"Load a running system with real clients, through its public API."`
	Verify  verifyCmd   `cmd:"" help:"Fold the logs and the ledger and check every invariant, changing nothing."`
	Plan    planCmd     `cmd:"" help:"Reckon what a load takes: processes, Redis, bytes, money, and which limit breaks first."`
	Sim     simulateCmd `cmd:"" name:"simulate" help:"Play a day's traffic against an autoscaler: minutes out of SLO, refused connections, cost."`
	Version versionCmd  `cmd:"" help:"Print the version."`

	LoadWorker loadWorkerCmd `cmd:"" hidden:""`
}

// A usageError is a mistake of whoever typed the command: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A program is what a command may use of the outside world.
type program struct {
	ctx    context.Context // ends at the first Ctrl-C: drain
	stdout io.Writer
	stderr io.Writer
	log    *slog.Logger
}

// gcPercent is how far the heap grows before it is collected, unless GOGC says
// otherwise. Heaps here are small and mostly short-lived, and what a collection
// takes from two cores is the tail of a claim: at Go's 100 its p99 was half as
// long again (docs/performance.md). GOMEMLIMIT bounds it where memory is scarce.
const gcPercent = 400

func main() {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains; from then on a second one kills, as ever.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole command, for main and for tests.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	code := -1
	parser, err := newParser(&c, stdout, stderr, func(n int) { code = n })
	if err != nil {
		fmt.Fprintln(stderr, "cairn:", err)
		return exitFailed
	}
	k, err := parser.Parse(args)
	if code >= 0 { // --help
		return code
	}
	if err != nil {
		fmt.Fprintf(stderr, "cairn: %v\nTry: cairn --help\n", err)
		return exitUsage
	}
	p := &program{ctx: ctx, stdout: stdout, stderr: stderr, log: newLogger(stderr, c.LogLevel, c.LogFormat)}
	err = k.Run(p)
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "cairn:", err)
		return exitUsage
	}
	fmt.Fprintln(stderr, "cairn:", err)
	return exitFailed
}

// newParser returns what reads command lines into c; exit is called in place of
// an end, by --help.
func newParser(c *cli, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("cairn"),
		kong.Description("The real-time treasure hunt engine. Start with: cairn up"),
		kong.UsageOnError(),
		kong.Writers(stdout, stderr),
		kong.Exit(exit),
		kong.DefaultEnvars("CAIRN"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
	)
}

func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of the flag's enum
	f, isFile := w.(*os.File)
	if format == "text" || format == "auto" && isFile && term.IsTerminal(int(f.Fd())) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: l, TimeFormat: time.TimeOnly}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}
