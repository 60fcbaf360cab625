//go:build unix

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"testing"
)

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }

// pretend is a cairn of which only the outside is there: the line that says
// where it listens, /readyz, /metrics, and an end in good order.
func pretend(args []string) int {
	role := args[0]
	flags := map[string]string{}
	for i := 1; i+1 < len(args); i++ {
		flags[args[i]] = args[i+1]
	}
	switch {
	case !slices.Contains(Roles, role):
		fmt.Println(strings.Join(args, " "))
		return 0
	case slices.Contains(args, "--fail"):
		fmt.Fprintln(os.Stderr, "asked to fail")
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	server := &http.Server{Addr: flags["--admin"]}
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "cairn_pid", os.Getpid()) })
	http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	fmt.Println("starting", role)
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	fmt.Printf("%s %s", role, flags["--name"])
	for _, f := range addressFlags[role] {
		fmt.Printf(" %s=%s", strings.TrimPrefix(f, "--"), flags[f])
	}
	fmt.Println()
	select {
	case <-ctx.Done():
		fmt.Println("drained")
		return 0
	case err := <-ended:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

// TestRole: a role is reached where it says, by the same name at the same place
// after each end.
func TestRole(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	r, err := l.StartRole(ctx, "claims", "claims-1")
	must(t, err)
	if r.Admin == "" || r.Peer == "" || r.Listen != "" {
		t.Fatalf("listen %q, peer %q, admin %q; want the last two", r.Listen, r.Peer, r.Admin)
	}
	admin, peer := r.Admin, r.Peer
	for name, end := range map[string]func() error{
		"kill":                      r.Kill,
		"stop":                      func() error { return r.Stop(ctx) },
		"interrupt":                 func() error { return errors.Join(r.Interrupt(), r.Wait(ctx)) },
		"pause and stop":            func() error { return errors.Join(r.Pause(), r.Stop(ctx)) },
		"pause, continue and kill":  func() error { return errors.Join(r.Pause(), r.Continue(), r.Kill()) },
		"kill of one that is ended": func() error { return errors.Join(r.Kill(), r.Kill()) },
	} {
		must(t, r.AwaitReady(ctx))
		m, err := r.Metrics(ctx)
		must(t, err)
		if got := int(m["cairn_pid"].GetMetric()[0].GetUntyped().GetValue()); got != r.Pid() {
			t.Errorf("%s answers as %d; want %d", r.Admin, got, r.Pid())
		}
		if err := end(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r.Running() {
			t.Errorf("%s: it runs still", name)
		}
		must(t, r.Start(ctx))
		if r.Admin != admin || r.Peer != peer {
			t.Errorf("after %s: peer %s, admin %s; want %s and %s", name, r.Peer, r.Admin, peer, admin)
		}
	}
	if err := r.Start(ctx); err == nil || !contains(err, "runs already") {
		t.Errorf("a second start: %v", err)
	}
	// Of whoever took its port meanwhile it hears.
	must(t, r.Kill())
	thief := &http.Server{Addr: r.Admin}
	stolen := make(chan error, 1)
	go func() { stolen <- thief.ListenAndServe() }()
	must(t, r.until(ctx, "", func() (bool, error) { return true, nil }))
	t.Cleanup(func() {
		thief.Close()
		<-stolen
	})
}

// TestFleet: all parts come up, with what they need to know, and drain in the
// order of the facts.
func TestFleet(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	f, err := l.StartFleet(ctx, Spec{
		Generators: 1, Claims: 3, Leaderboards: -1, Rewards: 1, Ack: "fsync", Hunts: []string{"name: one"},
		Redis: ClusterOptions{Primaries: 1},
	})
	must(t, err)
	if n := len(f.Roles("")); n != 1+3+2+1 || len(f.Roles("claims")) != 3 || len(f.Roles("leaderboard")) != 0 {
		t.Fatalf("%d roles; want 7", n)
	}
	fsync, err := f.Redis.Nodes[0].Do(ctx, "CONFIG", "GET", "appendfsync")
	must(t, err)
	if m, err := fsync.AsStrMap(); m["appendfsync"] != "always" {
		t.Errorf("appendfsync: %v (%v); want always, as ack fsync promises", m, err)
	}
	argv := strings.Join(f.Roles("rewards")[0].argv, " ")
	for _, want := range []string{"--log " + f.Redis.URL(), "--ledger " + f.Ledger.DSN(), "--fleet gateway=2,generator=1,claims=3,rewards=1", "--ack fsync"} {
		if !strings.Contains(argv, want) {
			t.Errorf("%s: there is no %s", argv, want)
		}
	}
	report, err := f.Verify(ctx)
	must(t, err)
	if !strings.Contains(string(report), f.Redis.URL()) {
		t.Errorf("verify was called as %s", report)
	}
	must(t, f.Drain(ctx))
	for _, r := range f.Roles("") {
		if r.Running() || !strings.Contains(r.Tail(1), "drained") {
			t.Errorf("%s: %s; want it drained", r.Name, r.Tail(3))
		}
	}
	if !f.Redis.Nodes[0].Running() || !f.Ledger.Running() {
		t.Error("the stores were ended too")
	}
}
