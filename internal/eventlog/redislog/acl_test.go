package redislog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// A vault is a server with TLS and an ACL file.
type vault struct {
	t    *testing.T
	ctx  context.Context
	addr string // of the TLS port
	tls  *tls.Config
}

func newVault(t *testing.T) *vault {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	v := &vault{t: t, ctx: ctx, tls: certificates(t, dir)}
	file := filepath.Join(dir, "users.acl")
	write(t, file, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v.addr = l.Addr().String()
	_, port, _ := net.SplitHostPort(v.addr)
	l.Close()
	node := redistest.Start(t, "--aclfile", file, "--tls-port", port, "--tls-auth-clients", "no",
		"--tls-cert-file", filepath.Join(dir, "cert.pem"), "--tls-key-file", filepath.Join(dir, "key.pem"),
		"--tls-ca-cert-file", filepath.Join(dir, "cert.pem"))
	passwords := make(map[string]string)
	for _, role := range ACLRoles() {
		passwords[role] = password(role)
	}
	text, err := ACL("", passwords)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, []byte(text))
	node.Do(t, "ACL", "LOAD") // refuses the file whole if a line is wrong
	return v
}

func password(role string) string { return "secret/of:" + role + "@" }

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificates writes a certificate that signs itself, and returns how a
// client knows it.
func certificates(t *testing.T, dir string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	write(t, filepath.Join(dir, "cert.pem"), public)
	write(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(public)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

func (v *vault) url(role string) string {
	escaped := strings.NewReplacer("/", "%2F", ":", "%3A", "@", "%40").Replace(password(role))
	return "rediss://" + ACLUser(role) + ":" + escaped + "@" + v.addr
}

func (v *vault) open(t *testing.T, role string) *Store {
	t.Helper()
	s := mustOpen(t, v.url(role), Options{TLS: v.tls})
	t.Cleanup(func() { s.Close() })
	return s
}

// TestACL has each role do what it does, as its user and over TLS, and try what
// none may.
func TestACL(t *testing.T) {
	v := newVault(t)
	logs := []eventlog.Name{"control", "maps", "s00", "s63", "standings"}
	admin := v.open(t, RoleAdmin)
	for _, log := range logs {
		if err := admin.Provision(v.ctx, eventlog.Spec{Name: log, Volatile: log == eventlog.Standings}); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := admin.Details(v.ctx); err != nil || len(all) != len(logs) {
		t.Fatalf("Details: %d, %v, want %d", len(all), err, len(logs))
	}
	if _, err := admin.MaxClients(v.ctx); err != nil {
		t.Error(err)
	}
	for role, writes := range map[string]string{
		RoleGenerator: "maps", RoleClaims: "s00 s63", RoleGateway: "control", RoleLeaderboard: "standings",
		RoleRewards: "", RoleVerify: "", RoleAdmin: "control maps s00 s63 standings",
	} {
		t.Run(role, func(t *testing.T) {
			s := v.open(t, role)
			for _, log := range logs {
				v.work(t, s, log, strings.Contains(writes, string(log)))
			}
			if role == RoleLeaderboard {
				if err := s.Trim(v.ctx, "s00", eventlog.Offset{Epoch: 1 << 40}); err != nil {
					t.Errorf("Trim: %v", err)
				}
			}
			v.forbidden(t, role)
			v.rings(t, role)
			if role != RoleVerify && role != RoleAdmin {
				v.lease(t, role)
			}
		})
	}
	if err := admin.Reset(v.ctx); err != nil {
		t.Error(err)
	}
}

// work reads a log, and writes to it if it may.
func (v *vault) work(t *testing.T, s *Store, log eventlog.Name, writes bool) {
	t.Helper()
	w, err := s.Open(v.ctx, log)
	if (err == nil) != writes {
		t.Fatalf("Open %s: %v, want it done: %v", log, err, writes)
	}
	if err == nil {
		for range 3 {
			if _, err := w.Append(v.ctx, []byte("x"), eventlog.Offset{}); err != nil {
				t.Fatalf("Append to %s: %v", log, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	st, err := s.Status(v.ctx, log)
	if err != nil {
		t.Fatalf("Status of %s: %v", log, err)
	}
	f, err := s.Follow(v.ctx, log, st.Base)
	if err != nil {
		t.Fatalf("Follow %s: %v", log, err)
	}
	defer f.Close()
	for at := st.Base; at.Less(st.Last); {
		recs, _, err := f.Next(v.ctx)
		if err != nil {
			t.Fatalf("Next of %s: %v", log, err)
		}
		at = recs[len(recs)-1].Offset
	}
}

func (v *vault) client(t *testing.T, role string) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{v.addr}, ForceSingleClient: true, DisableCache: true,
		Username: ACLUser(role), Password: password(role), TLSConfig: v.tls, ClientSetInfo: rueidis.DisableClientSetInfo,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// forbidden tries what would lose a log or its fence, or what any more than
// that.
func (v *vault) forbidden(t *testing.T, role string) {
	t.Helper()
	c := v.client(t, role)
	key := Key("cairn", "s00")
	for _, line := range []string{
		"XSETID " + key + " 0-1", "XDEL " + key + " 0-1", "DEL " + key, "UNLINK " + key, "EXPIRE " + key + " 1", "PEXPIRE " + key + " 1",
		"RENAME " + key + " x", "COPY " + key + " x", "RESTORE " + key + " 0 x REPLACE", "DUMP " + key, "SET " + key + " x", "XTRIM " + key + " MAXLEN 1",
		"XGROUP CREATE " + key + " g 0", "SORT " + key + " STORE x", "SET other x", "GET other", "KEYS *", "RANDOMKEY",
		"FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "MOVE " + key + " 1", "CONFIG SET maxmemory 1", "CONFIG REWRITE",
		"EVAL x 0", "SCRIPT FLUSH", "FUNCTION FLUSH", "MONITOR", "SHUTDOWN", "REPLICAOF NO ONE", "SAVE", "BGREWRITEAOF",
		"CLUSTER FAILOVER", "CLUSTER SETSLOT 1 STABLE", "CLUSTER RESET", "CLIENT KILL TYPE normal", "CLIENT PAUSE 1", "CLIENT LIST",
		"ACL LIST", "ACL SETUSER x", "PSYNC ? -1", "PUBLISH x y", "MIGRATE 127.0.0.1 1 " + key + " 0 1",
	} {
		if role == RoleAdmin && line == "DEL "+key || role == RoleLeaderboard && strings.HasPrefix(line, "XTRIM") {
			continue // cairn log reset, and the retention
		}
		err := c.Do(v.ctx, c.B().Arbitrary(strings.Fields(line)...).Build()).Error()
		if err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%s: %v, want NOPERM", line, err)
		}
	}
}

// rings does what a poll does to arm a bell.
func (v *vault) rings(t *testing.T, role string) {
	t.Helper()
	c := v.client(t, role)
	for _, r := range c.DoMulti(v.ctx, c.B().ClientTracking().On().Optin().Build(), c.B().ClientCaching().Yes().Build()) {
		if err := r.Error(); err != nil {
			t.Errorf("to arm a bell: %v", err)
		}
	}
}

// lease does what fleet/redisreg does.
func (v *vault) lease(t *testing.T, role string) {
	t.Helper()
	c := v.client(t, role)
	for _, line := range []string{
		"SET cairn:{fleet}:x:me json PX 1000", "SET cairn:{fleet}:x:me json GET PX 1000", "SADD cairn:{fleet}:x me", "SMEMBERS cairn:{fleet}:x", "MGET cairn:{fleet}:x:me",
		"GET cairn:{fleet}:x:me", "SREM cairn:{fleet}:x me", "DEL cairn:{fleet}:x:me",
	} {
		if err := c.Do(v.ctx, c.B().Arbitrary(strings.Fields(line)...).Build()).Error(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestWrongSecrets: who is refused is told why, and not the password.
func TestWrongSecrets(t *testing.T) {
	v := newVault(t)
	for name, c := range map[string]struct {
		url  string
		tls  *tls.Config
		want string
	}{
		"password":      {"rediss://" + ACLUser(RoleClaims) + ":wrongsecret@" + v.addr, v.tls, "WRONGPASS"},
		"no user":       {"rediss://" + v.addr, v.tls, "NOAUTH"},
		"authority":     {v.url(RoleClaims), nil, "certificate"},
		"without TLS":   {strings.Replace(v.url(RoleClaims), "rediss", "redis", 1), nil, ""},
		"another right": {v.url(RoleReplica), v.tls, "NOPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(v.ctx, c.url, Options{TLS: c.tls})
			if err == nil {
				s.Close()
				t.Fatal("Open: no error")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("Open: %v, want %s and no password", err, c.want)
			}
		})
	}
	if _, err := ACL("a b", nil); err == nil {
		t.Error("ACL with a bad prefix: no error")
	}
	text, err := ACL("", nil)
	if err != nil || strings.Contains(text, " on ") {
		t.Errorf("without passwords a user is on:\n%s%v", text, err)
	}
}
