package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/veltrix/cairn"
)

const (
	// guestLife is how long a guest's token is good: long enough that a
	// player who comes back next week is still the same player.
	guestLife = 30 * 24 * time.Hour

	guestIssuer   = "cairn"
	tokenBytesMax = 4096

	// trustFor bounds how long a verified token is believed without looking at
	// its signature again, so that a key withdrawn by its issuer stops working.
	trustFor = 5 * time.Minute

	// secretBytesMin is what RFC 7518, section 3.2 asks of an HS256 key.
	secretBytesMin = 32
)

// An Issuer is who signs the operator's own tokens: with a shared secret, or
// with keys published as a JWKS. Exactly one of Secret and JWKS is set.
//
// A token of it carries sub (the player's id), exp, and may carry name.
type Issuer struct {
	Name     string // required iss; "" accepts any
	Audience string // required aud; "" accepts any
	Secret   []byte // HS256, at least 32 bytes
	JWKS     string // URL; RS, PS, ES and EdDSA signatures only
}

// A player is who a token speaks for.
type player struct {
	id   cairn.PlayerID
	name string
}

// errToken reports a token that is missing or not to be believed. It is wrapped
// with why, in words that are safe to show.
var errToken = errors.New("token")

// playerClaims is what a token says.
type playerClaims struct {
	jwt.RegisteredClaims
	Name string `json:"name,omitempty"`
}

// tokens signs guests' tokens and verifies all. Safe for concurrent use.
type tokens struct {
	// Static after newTokens.
	now    func() time.Time
	guests bool
	key    []byte // signs guests' tokens
	kid    string // names key, so that another key's tokens are told apart
	guest  *jwt.Parser

	operator *jwt.Parser // nil without an issuer
	keys     jwt.Keyfunc

	seen tokenCache
}

// newTokens returns the tokens of a server. ctx bounds the life of the
// goroutine that refreshes a JWKS.
func newTokens(ctx context.Context, guests bool, key []byte, issuer *Issuer, now func() time.Time) (*tokens, error) {
	t := &tokens{now: now, guests: guests}
	if guests {
		if len(key) < secretBytesMin {
			return nil, fmt.Errorf("server: token key has %d bytes; want at least %d", len(key), secretBytesMin)
		}
		t.key = key
		sum := sha256.Sum256(append([]byte("cairn token key id\x00"), key...))
		t.kid = "guest-" + hex.EncodeToString(sum[:4])
		t.guest = jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
			jwt.WithIssuer(guestIssuer), jwt.WithStrictDecoding(), jwt.WithTimeFunc(now))
	}
	if issuer == nil {
		return t, nil
	}
	return t, t.trust(ctx, issuer)
}

// trust adds the operator's issuer. The signature methods that it may use
// follow from the kind of its key alone, never from what a token says of
// itself: a public key is never taken for a secret.
func (t *tokens) trust(ctx context.Context, is *Issuer) error {
	var methods []string
	switch {
	case (len(is.Secret) > 0) == (is.JWKS != ""):
		return errors.New("server: an issuer wants exactly one of a secret and a JWKS")
	case is.JWKS != "":
		kf, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{is.JWKS}, keyfunc.Override{
			HTTPTimeout:      5 * time.Second,
			RateLimitWaitMax: time.Millisecond, // an unknown key id is refused, not waited for
		})
		if err != nil {
			return fmt.Errorf("server: issuer's keys: %w", err)
		}
		methods, t.keys = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}, kf.Keyfunc
	case len(is.Secret) < secretBytesMin:
		return fmt.Errorf("server: issuer's secret has %d bytes; want at least %d", len(is.Secret), secretBytesMin)
	default:
		methods, t.keys = []string{"HS256"}, func(*jwt.Token) (any, error) { return is.Secret, nil }
	}
	opts := []jwt.ParserOption{
		jwt.WithValidMethods(methods), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(t.now), jwt.WithLeeway(10 * time.Second),
	}
	if is.Name != "" {
		opts = append(opts, jwt.WithIssuer(is.Name))
	}
	if is.Audience != "" {
		opts = append(opts, jwt.WithAudience(is.Audience))
	}
	t.operator = jwt.NewParser(opts...)
	return nil
}

// signIn makes a new guest and its token.
func (t *tokens) signIn(name string) (player, string, error) {
	p := player{id: cairn.PlayerID("g" + strings.ToLower(rand.Text()[:20])), name: name} // 100 bits of chance
	now := t.now()
	tok := jwt.NewWithClaims(jwt.SigningMethodHS256, playerClaims{Name: name, RegisteredClaims: jwt.RegisteredClaims{
		Issuer: guestIssuer, Subject: string(p.id), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(guestLife)),
	}})
	tok.Header["kid"] = t.kid
	s, err := tok.SignedString(t.key)
	if err != nil {
		return player{}, "", fmt.Errorf("server: signing a token: %w", err)
	}
	return p, s, nil
}

// verify returns the player that a token speaks for, or errToken with why not.
func (t *tokens) verify(token string) (player, error) {
	if token == "" {
		return player{}, fmt.Errorf("%w: is missing", errToken)
	}
	if len(token) > tokenBytesMax {
		return player{}, fmt.Errorf("%w: has %d bytes; want at most %d", errToken, len(token), tokenBytesMax)
	}
	// Cached by hash: what an attacker sends is never compared with a good
	// token byte by byte, and the good one is not kept in memory.
	sum := sha256.Sum256([]byte(token))
	now := t.now()
	if p, ok := t.seen.get(sum, now); ok {
		return p, nil
	}
	var c playerClaims
	if err := t.parse(token, &c); err != nil {
		return player{}, err
	}
	p := player{id: cairn.PlayerID(c.Subject), name: c.Name}
	if p.name == "" {
		p.name = c.Subject
	}
	if !validPlayerID(c.Subject) {
		return player{}, fmt.Errorf("%w: its sub is not a player id: 1 to %d bytes of printable UTF-8", errToken, cairn.PlayerBytesMax)
	}
	if err := cairn.ValidPlayerName(p.name); err != nil {
		return player{}, fmt.Errorf("%w: its name %w", errToken, err)
	}
	until := c.ExpiresAt.Time
	if limit := now.Add(trustFor); limit.Before(until) {
		until = limit
	}
	t.seen.put(sum, p, now, until)
	return p, nil
}

// errNotGuest tells a token that another key signed from one that is forged.
var errNotGuest = errors.New("not a guest's token")

func (t *tokens) parse(token string, c *playerClaims) error {
	err := errNotGuest
	if t.guest != nil {
		_, err = t.guest.ParseWithClaims(token, c, func(tok *jwt.Token) (any, error) {
			if tok.Header["kid"] != t.kid {
				return nil, errNotGuest
			}
			return t.key, nil
		})
	}
	// A token whose method is not a guest's may still be the operator's.
	if t.operator != nil && err != nil && (errors.Is(err, errNotGuest) || errors.Is(err, jwt.ErrTokenSignatureInvalid)) {
		*c = playerClaims{}
		_, err = t.operator.ParseWithClaims(token, c, t.keys)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired):
		return fmt.Errorf("%w: has expired", errToken)
	case errors.Is(err, jwt.ErrTokenMalformed):
		return fmt.Errorf("%w: is not a JWT", errToken)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return fmt.Errorf("%w: is not valid yet", errToken)
	}
	return fmt.Errorf("%w: was not signed by anyone this server trusts", errToken)
}

// validPlayerID reports whether s is 1 to 64 bytes of printable UTF-8.
func validPlayerID(s string) bool {
	return len(s) > 0 && len(s) <= cairn.PlayerBytesMax && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// bearer returns the token of an Authorization header, or "".
func bearer(r *http.Request) string {
	const scheme = "bearer "
	h := r.Header.Get("Authorization")
	if len(h) <= len(scheme) || !strings.EqualFold(h[:len(scheme)], scheme) {
		return ""
	}
	return strings.TrimSpace(h[len(scheme):])
}

// who returns the player of a request, or the 401.
func (t *tokens) who(token string) (player, *Problem) {
	p, err := t.verify(token)
	if err == nil {
		return p, nil
	}
	pr := problem(http.StatusUnauthorized, codeToken, "%s", err.Error()).with("WWW-Authenticate", `Bearer realm="cairn"`)
	if token != "" {
		pr = pr.with("WWW-Authenticate", `Bearer realm="cairn", error="invalid_token"`)
	}
	return player{}, pr
}

const (
	cacheShards   = 16
	cacheShardMax = 4096 // tokens; all together about 8 MB
)

// A tokenCache remembers tokens that were verified, by hash. Its zero value is
// empty. It is bounded: a full shard forgets any one token, which then is
// verified again, so nothing depends on what it holds.
type tokenCache struct {
	shards [cacheShards]struct {
		mu sync.RWMutex
		m  map[[32]byte]cachedToken
	}
}

type cachedToken struct {
	player
	until time.Time
}

func (c *tokenCache) get(sum [32]byte, now time.Time) (player, bool) {
	s := &c.shards[sum[0]%cacheShards]
	s.mu.RLock()
	e, ok := s.m[sum]
	s.mu.RUnlock()
	if !ok || !now.Before(e.until) {
		return player{}, false
	}
	return e.player, true
}

func (c *tokenCache) put(sum [32]byte, p player, now, until time.Time) {
	if !now.Before(until) {
		return // good by leeway only: look again each time
	}
	s := &c.shards[sum[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[[32]byte]cachedToken)
	}
	if len(s.m) >= cacheShardMax {
		for k := range s.m { // Go picks where to begin at random
			delete(s.m, k)
			break
		}
	}
	s.m[sum] = cachedToken{p, until}
}
