package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/veltrix/cairn"
)

// guestTokens returns tokens of guests under a clock that the test moves.
func guestTokens(t testing.TB, issuer *Issuer) (*tokens, *time.Time) {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	toks, err := newTokens(context.Background(), true, testTokenKey, issuer, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return toks, &now
}

func TestGuestTokens(t *testing.T) {
	toks, now := guestTokens(t, nil)
	p, token, err := toks.signIn("ana")
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"first", "cached"} {
		got, err := toks.verify(token)
		if err != nil || got != p || got.name != "ana" {
			t.Errorf("%s: got %+v, %v, want %+v", what, got, err, p)
		}
	}
	if q, _, _ := toks.signIn("ana"); q.id == p.id {
		t.Errorf("two guests have the id %s", p.id)
	}
	*now = now.Add(guestLife + time.Second)
	if _, err := toks.verify(token); !errors.Is(err, errToken) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v after its life, want an expired token", err)
	}
}

// TestTokenAttacks signs and forges tokens in the ways that are known.
func TestTokenAttacks(t *testing.T) {
	toks, now := guestTokens(t, nil)
	_, good, err := toks.signIn("ana")
	if err != nil {
		t.Fatal(err)
	}
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"iss": guestIssuer, "sub": "eve", "name": "eve", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
		if change != nil {
			change(c)
		}
		return c
	}
	sign := func(m jwt.SigningMethod, key any, kid any, c jwt.MapClaims) string {
		tok := jwt.NewWithClaims(m, c)
		if kid != nil {
			tok.Header["kid"] = kid
		}
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	parts := strings.Split(good, ".")
	payload := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	hs, k, kid := jwt.SigningMethodHS256, testTokenKey, toks.kid
	// The baseline of the table: signed as it should be, it is taken.
	if _, err := toks.verify(sign(hs, k, kid, claims(nil))); err != nil {
		t.Fatalf("a good token: %v", err)
	}
	for what, token := range map[string]string{
		"nothing":             "",
		"not a JWT":           "abc",
		"two parts":           parts[0] + "." + parts[1],
		"too long":            good + strings.Repeat("A", tokenBytesMax),
		"alg none":            sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, claims(nil)),
		"alg none, signature": sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, claims(nil)) + parts[2],
		"HS512, right key":    sign(jwt.SigningMethodHS512, k, kid, claims(nil)),
		"RS256":               sign(jwt.SigningMethodRS256, rsaKey, kid, claims(nil)),
		"another key":         sign(hs, []byte(strings.Repeat("x", 40)), kid, claims(nil)),
		"empty key":           sign(hs, []byte{}, kid, claims(nil)),
		"another kid":         sign(hs, k, "guest-00000000", claims(nil)),
		"no kid":              sign(hs, k, nil, claims(nil)),
		"kid is a number":     sign(hs, k, 7, claims(nil)),
		"tampered payload":    parts[0] + "." + payload(claims(nil)) + "." + parts[2],
		"tampered signature":  good[:len(good)-4] + "AAAA",
		"no signature":        parts[0] + "." + parts[1] + ".",
		"padding":             good + "=",
		"expired":             sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["exp"] = now.Add(-time.Second).Unix() })),
		"no exp":              sign(hs, k, kid, claims(func(c jwt.MapClaims) { delete(c, "exp") })),
		"exp is a string":     sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["exp"] = "soon" })),
		"not yet":             sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["nbf"] = now.Add(time.Minute).Unix() })),
		"from the future":     sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["iat"] = now.Add(time.Minute).Unix() })),
		"another issuer":      sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["iss"] = "evil" })),
		"no sub":              sign(hs, k, kid, claims(func(c jwt.MapClaims) { delete(c, "sub") })),
		"sub too long":        sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["sub"] = strings.Repeat("a", 65) })),
		"sub not printable":   sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["sub"] = "a\nb" })),
		"name too long":       sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["name"] = strings.Repeat("a", 41) })),
		"name is control":     sign(hs, k, kid, claims(func(c jwt.MapClaims) { c["name"] = "a\x00b" })),
	} {
		for range 2 { // the second time would find it if it had been cached
			if p, err := toks.verify(token); !errors.Is(err, errToken) {
				t.Errorf("%s: got %+v, %v, want errToken", what, p, err)
			}
		}
	}
}

// jwks serves the public half of keys as a JWKS.
func jwks(t *testing.T, rsaKey *rsa.PrivateKey, ecKey *ecdsa.PrivateKey) string {
	t.Helper()
	b64 := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	doc := map[string]any{"keys": []any{
		map[string]any{"kty": "RSA", "kid": "r1", "alg": "RS256", "use": "sig", "n": b64(rsaKey.N), "e": b64(big.NewInt(int64(rsaKey.E)))},
		map[string]any{
			"kty": "EC", "kid": "e1", "alg": "ES256", "use": "sig", "crv": "P-256",
			"x": b64(ecKey.X), "y": b64(ecKey.Y),
		},
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(doc)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestIssuerJWKS(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	now := time.Now()
	toks, err := newTokens(ctx, true, testTokenKey, &Issuer{Name: "op", Audience: "cairn", JWKS: jwks(t, rsaKey, ecKey)}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	sign := func(m jwt.SigningMethod, key any, kid, iss, aud string) string {
		tok := jwt.NewWithClaims(m, jwt.MapClaims{"iss": iss, "aud": aud, "sub": "user-7", "exp": now.Add(time.Hour).Unix()})
		tok.Header["kid"] = kid
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for what, token := range map[string]string{
		"RS256": sign(jwt.SigningMethodRS256, rsaKey, "r1", "op", "cairn"),
		"ES256": sign(jwt.SigningMethodES256, ecKey, "e1", "op", "cairn"),
	} {
		if p, err := toks.verify(token); err != nil || p.id != "user-7" || p.name != "user-7" {
			t.Errorf("%s: got %+v, %v, want user-7", what, p, err)
		}
	}
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for what, token := range map[string]string{
		"HS256 with the public key, PEM": sign(jwt.SigningMethodHS256, public, "r1", "op", "cairn"),
		"HS256 with the public key, DER": sign(jwt.SigningMethodHS256, der, "r1", "op", "cairn"),
		"unknown kid":                    sign(jwt.SigningMethodRS256, rsaKey, "r2", "op", "cairn"),
		"key of another kind":            sign(jwt.SigningMethodRS256, rsaKey, "e1", "op", "cairn"),
		"another issuer":                 sign(jwt.SigningMethodRS256, rsaKey, "r1", "other", "cairn"),
		"another audience":               sign(jwt.SigningMethodRS256, rsaKey, "r1", "op", "bank"),
		"alg none":                       sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "r1", "op", "cairn"),
	} {
		if p, err := toks.verify(token); !errors.Is(err, errToken) {
			t.Errorf("%s: got %+v, %v, want errToken", what, p, err)
		}
	}
	// Guests and the operator's players may come side by side.
	_, guest, err := toks.signIn("ana")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := toks.verify(guest); err != nil {
		t.Errorf("a guest beside an issuer: %v", err)
	}
}

func TestIssuerSecret(t *testing.T) {
	secret := []byte(strings.Repeat("s", 32))
	toks, now := guestTokens(t, &Issuer{Secret: secret})
	tok, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "u1", "name": "Bo", "exp": now.Add(time.Hour).Unix()}).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := toks.verify(tok); err != nil || p != (player{"u1", "Bo"}) {
		t.Errorf("got %+v, %v, want u1 Bo", p, err)
	}
	for what, is := range map[string]*Issuer{
		"nothing":      {},
		"both":         {Secret: secret, JWKS: "http://127.0.0.1:1"},
		"short secret": {Secret: secret[:31]},
	} {
		if _, err := newTokens(context.Background(), false, nil, is, time.Now); err == nil {
			t.Errorf("issuer with %s: want an error", what)
		}
	}
	if _, err := newTokens(context.Background(), true, testTokenKey[:31], nil, time.Now); err == nil {
		t.Error("short token key: want an error")
	}
}

// TestTokenCache fills the cache past its bounds: it must stay bounded, and
// right.
func TestTokenCache(t *testing.T) {
	var c tokenCache
	now := time.Now()
	for i := range cacheShards * cacheShardMax * 2 {
		var sum [32]byte
		sum[0], sum[1], sum[2], sum[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		c.put(sum, player{id: cairn.PlayerID(fmt.Sprint(i))}, now, now.Add(time.Minute))
		if p, ok := c.get(sum, now); !ok || p.id != cairn.PlayerID(fmt.Sprint(i)) {
			t.Fatalf("got %v, %v for what was just put", p, ok)
		}
	}
	for i := range c.shards {
		if n := len(c.shards[i].m); n > cacheShardMax {
			t.Errorf("shard %d holds %d, want at most %d", i, n, cacheShardMax)
		}
	}
	var sum [32]byte
	sum[31] = 1
	c.put(sum, player{id: "x"}, now, now.Add(time.Second))
	if _, ok := c.get(sum, now.Add(time.Second)); ok {
		t.Error("a token outlived its trust")
	}
}

func BenchmarkVerify(b *testing.B) {
	toks, now := guestTokens(b, nil)
	_, token, err := toks.signIn("ana")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := toks.verify(token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			*now = now.Add(trustFor / 1e6)
			toks.seen = tokenCache{}
			if _, err := toks.verify(token); err != nil {
				b.Fatal(err)
			}
		}
	})
}
