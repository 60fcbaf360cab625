package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// TestRoleUsage gives the flags of roles and of cairn log wrong values.
func TestRoleUsage(t *testing.T) {
	const log, keys, led = "--log=redis://127.0.0.1:1", "--keys=k.json", "--ledger=sqlite:x.db"
	for _, c := range []struct {
		args string
		want []string
	}{
		{"generator " + keys, []string{"--log", "redis://"}},
		{"generator " + log, []string{"--keys"}},
		{"generator " + keys + " --log=http://x", []string{"--log", "unknown scheme"}},
		{"generator " + keys + " " + log + " --ack=maybe", []string{"--ack", "replicas"}},
		{"generator " + keys + " " + log + " --log-ca=ca.pem", []string{"--log-ca", "rediss://"}},
		{"generator " + keys + " " + log + " --admin=0.0.0.0:0", []string{"--admin", "--admin-token"}},
		{"generator " + keys + " " + log + " --fleet=claims", []string{"--fleet", "claims", "0 to 10000"}},
		{"generator " + keys + " " + log + " --fleet=bakers=2", []string{"--fleet", "bakers", "ROLE=N"}},
		{"generator " + keys + " " + log + " --fleet=claims=2,claims=3", []string{"--fleet", "claims", "twice"}},
		{"generator " + keys + " " + log + " --name=a/b", []string{"--name", "a/b"}},
		{"claims " + keys + " " + log + " --peer=9000", []string{"--peer", "HOST:PORT"}},
		{"claims " + keys + " " + log + " --peer=0.0.0.0:0", []string{"--advertise", "--peer"}},
		{"claims " + keys + " " + log + " --advertise=here", []string{"--advertise", "here", "HOST:PORT"}},
		{"gateway " + keys + " " + log, []string{"--ledger", "postgres://"}},
		{"gateway " + keys + " " + log + " " + led, []string{"--guests", "--jwks"}},
		{"gateway " + keys + " " + log + " " + led + " --guests --claim-rate=0", []string{"--claim-rate"}},
		{"gateway " + keys + " " + log + " " + led + " --jwks=http://x --issuer-secret=y", []string{"--issuer-secret", "--jwks", "exclude"}},
		{"gateway " + keys + " " + log + " " + led + " --issuer-secret=/no/such/file", []string{"--issuer-secret", "/no/such/file"}},
		{"leaderboard " + log, []string{"--ledger"}},
		{"leaderboard " + log + " " + led + " --retention=1m", []string{"--retention", "1h15m"}},
		{"rewards " + log, []string{"--ledger"}},
		{"rewards " + log + " --ledger=mysql:x", []string{"--ledger", "postgres://"}},
		{"log init", []string{"--log", "redis://"}},
		{"log init " + log + " --shards-max=0", []string{"--shards-max", "1 to 1024"}},
		{"log status", []string{"--log"}},
		{"log reset", []string{"--log"}},
		{"log acl", []string{"--passwords"}},
		{"log acl --passwords=" + write(t, "pw", "claims secret\nbaker bread\n"), []string{"--passwords", ":2", "baker", "claims"}},
		{"up --log=http://x", []string{"--log", "unknown scheme"}},
	} {
		wantUsage(t, strings.Fields(c.args), c.want...)
	}
}

// TestLog provisions logs, adds shards, and tells a log that was lost from one
// that never was.
func TestLog(t *testing.T) {
	redis := redistest.Start(t)
	logCmd := func(args ...string) (int, string, string) {
		return running(t, append([]string{"log", args[0], "--log", redis.URL()}, args[1:]...)...)
	}
	keys := filepath.Join(t.TempDir(), "keys.json")
	role := func() (int, string) {
		code, _, stderr := running(t, "generator", "--log", redis.URL(), "--keys", keys, "--fleet", "gateway=9000")
		return code, stderr
	}
	if code, said := role(); code != exitFailed || !strings.Contains(said, "cairn log init") {
		t.Errorf("a role without logs: exit code %d, said %q; want %d and the command that makes them", code, said, exitFailed)
	}
	for _, step := range []struct {
		shards, want string
	}{{"3", "provisioned 3 shards"}, {"3", "3 shards are there already"}, {"5", "provisioned 2 shards more"}} {
		if code, out, said := logCmd("init", "--shards-max", step.shards, "--keys", keys); code != exitDone || !strings.Contains(out, step.want) {
			t.Errorf("init of %s shards: exit code %d, said %q %q; want %q", step.shards, code, out, said, step.want)
		}
	}
	if st, err := os.Stat(keys); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the keys' file: %v, %v; want mode 0600", st, err)
	}
	if code, said := role(); code != exitFailed || !strings.Contains(said, "CONFIG SET maxclients") {
		t.Errorf("a fleet that is too large: exit code %d, said %q; want %d and the command that mends it", code, said, exitFailed)
	}
	if code, out, _ := logCmd("status"); code != exitDone || !strings.Contains(out, "8 logs") {
		t.Errorf("status: exit code %d, said %q; want 8 logs", code, out)
	}
	if code, _, said := logCmd("reset"); code != exitUsage || !strings.Contains(said, "--yes") {
		t.Errorf("reset without --yes: exit code %d, said %q; want %d", code, said, exitUsage)
	}
	redis.Do(t, "DEL", redislog.Key("cairn", "s02"))
	for _, cmd := range []string{"init", "status"} {
		if code, _, said := logCmd(cmd); code != exitFailed || !strings.Contains(said, "s02") || !strings.Contains(said, "cairn log reset") {
			t.Errorf("%s with a log that was lost: exit code %d, said %q; want %d, its name, and what to do", cmd, code, said, exitFailed)
		}
	}
	if code, out, _ := logCmd("reset", "--yes"); code != exitDone || !strings.Contains(out, "deleted 7 logs") {
		t.Errorf("reset: exit code %d, said %q; want 7 logs deleted", code, out)
	}
}

// TestUpOnRedis has the whole game on logs in Redis: what was acknowledged
// stands after kill -9, and a folder whose logs are gone is refused.
func TestUpOnRedis(t *testing.T) {
	redis := redistest.Start(t)
	data := filepath.Join(t.TempDir(), "data")
	hunt := write(t, "race.yaml", raceHunt)
	p := up(t, data, "--log", redis.URL(), "--hunt", hunt)
	_, token := p.signIn("ana")
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	claim := fmt.Sprintf(`{"map":%d,"tile":%d}`, m.Tick, m.Tiles[0].Index)
	won := p.call("POST", "/v1/hunts/race/claims", token, claim)
	if won.Status != http.StatusOK || won.Outcome != "won" {
		t.Fatalf("claim: got %+v, want 200 won", won)
	}
	p.kill()
	p = up(t, data, "--log", redis.URL(), "--hunt", hunt)
	if again := p.call("POST", "/v1/hunts/race/claims", token, claim); again.Status != http.StatusOK || again.Offset != won.Offset {
		t.Errorf("the holder's retry after kill -9: got %+v, want 200 and offset %s", again, won.Offset)
	}
	http.DefaultClient.CloseIdleConnections()
	p.interrupt()
	if code, out, said := running(t, "verify", "--log", redis.URL(), "--ledger", "sqlite:"+filepath.Join(data, ledgerFile)); code != exitDone {
		t.Errorf("verify: exit code %d:\n%s%s", code, out, said)
	}
	again := func(args ...string) (int, string) {
		code, _, said := running(t, append([]string{"up", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--bots", "0"}, args...)...)
		return code, said
	}
	if code, said := again(); code != exitUsage || !strings.Contains(said, "--log") {
		t.Errorf("without --log: exit code %d, said %q; want %d", code, said, exitUsage)
	}
	redis.Do(t, "FLUSHALL")
	if code, said := again("--log", redis.URL()); code != exitFailed || !strings.Contains(said, "cairn log reset") || !strings.Contains(said, data) {
		t.Errorf("an empty Redis under a folder that knows its logs: exit code %d, said %q; want %d, and what to do", code, said, exitFailed)
	}
}
