package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/veltrix/cairn/internal/audit"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/ledger/pgtest"
)

// TestVerifyLiveUsage: each wrong use is exit code 2, names the flag, and never
// repeats a password.
func TestVerifyLiveUsage(t *testing.T) {
	const log, led = "redis://cairn:s3cret@127.0.0.1:1", "postgres://cairn:s3cret@127.0.0.1:1/cairn"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--log", log, "--ledger", led, "--data", "."}, []string{"--data and --log exclude each other"}},
		{[]string{"--log", log}, []string{"--log", "--ledger", "postgres://USER@HOST/DATABASE"}},
		{[]string{"--log", "s3cret", "--ledger", led}, []string{"--log", "unknown scheme", "redis://"}},
		{[]string{"--log", "redis://u:s3cret@/x", "--ledger", led}, []string{"--log", "no host"}},
		{[]string{"--log", "redis://u:s3cret@h/x", "--ledger", led}, []string{"--log", "not a number"}},
		{[]string{"--log", "redis://u:s3cret@h?fast", "--ledger", led}, []string{"--log", "unknown parameter", "fast"}},
		{[]string{"--log", "redis://u:s3cret@h,i", "--ledger", led}, []string{"--log", "Cluster"}},
		{[]string{"--log", log, "--ledger", "mysql:s3cret"}, []string{"--ledger", "postgres://"}},
		{[]string{"--log", log, "--ledger", led, "--log-ca", "ca.pem"}, []string{"--log-ca", "rediss://"}},
		{[]string{"--log-ca", "ca.pem"}, []string{"--log-ca", "--log"}},
	} {
		code, stdout, stderr := cairnCmd(t, append([]string{"verify"}, c.args...)...)
		if code != exitUsage || stdout != "" || strings.Contains(stderr, "s3cret") {
			t.Errorf("%q: exit code %d, printed %q and %q; want %d", c.args, code, stdout, stderr, exitUsage)
		}
		for _, part := range c.want {
			if !strings.Contains(stderr, part) {
				t.Errorf("%q: no %q in %q", c.args, part, stderr)
			}
		}
	}
}

// running runs a command that goes on until it is done.
func running(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var o, e strings.Builder
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

// TestVerifyLive: logs in Redis and a ledger in PostgreSQL that are in use are
// verified; what is wrong is named; a server that is not there is no violation.
func TestVerifyLive(t *testing.T) {
	redis := redistest.Start(t)
	dsn := pgtest.Start(t, false).Schema(t)
	store, err := redislog.Open(t.Context(), redis.URL(), redislog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Provision(t.Context(), specs(3)...); err != nil {
		t.Fatal(err)
	}
	led, err := ledger.Open(t.Context(), dsn, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer led.Close()
	w, err := store.Open(t.Context(), eventlog.Shard(1))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()

	live := []string{"verify", "--log", redis.URL(), "--ledger", dsn}
	code, stdout, stderr := running(t, live...)
	if code != exitDone || !strings.Contains(stdout, "verified up to control 0-1, maps 0-1, s00 0-1, s01 1-") || !strings.HasSuffix(stdout, "ok: every invariant holds\n") {
		t.Errorf("exit code %d, want %d:\n%s%s", code, exitDone, stdout, stderr)
	}
	code, stdout, stderr = running(t, append(live, "--json")...)
	var r audit.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitDone || !r.OK || r.Began.IsZero() || r.Ledger == nil {
		t.Errorf("JSON: %v, exit code %d:\n%s%s", err, code, stdout, stderr)
	}
	shard := func(r audit.Reach) bool { return r.Log == "s01" }
	if i := slices.IndexFunc(r.Verified, shard); i < 0 || r.Verified[i].To.Epoch != 1 {
		t.Errorf("s01 is not verified up to epoch 1: %s", stdout)
	}

	o, err := w.Append(t.Context(), []byte("no claims"), eventlog.Offset{})
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = running(t, live...)
	if code != exitFailed || !strings.Contains(stdout, "VIOLATION s01 "+o.String()+": ") {
		t.Errorf("a record that is no claims: exit code %d, want %d and s01 %v:\n%s", code, exitFailed, o, stdout)
	}

	silent := func(flag string, args ...string) {
		t.Helper()
		code, stdout, stderr := running(t, args...)
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, flag+": nothing was verified") {
			t.Errorf("exit code %d, printed %q and %q; want %d and that %s is not there", code, stdout, stderr, exitFailed, flag)
		}
	}
	silent("--ledger", "verify", "--log", redis.URL(), "--ledger", "postgres://cairn@127.0.0.1:1/cairn?sslmode=disable")
	redis.Kill()
	silent("--log", live...)
}
