//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	bodyBytesMax  = 128 << 10
	bodiesMax     = 256
	standingsRows = 100 // of ours, by default
)

func (g *game) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/players", g.postPlayer)
	mux.HandleFunc("GET /v1/live", g.live)
	mux.HandleFunc("POST /v1/hunts/{hunt}/claims", g.postClaims)
	mux.HandleFunc("GET /v1/hunts/{hunt}/standings", g.getStandings)
	mux.HandleFunc("GET /tally", g.getTally)
	return mux
}

var signedIn atomic.Int64

func (g *game) postPlayer(w http.ResponseWriter, r *http.Request) {
	var in struct{ Name string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytesMax)).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := fmt.Sprintf("g%020d", signedIn.Add(1)) // as long as ours
	token, err := g.signIn(id, in.Name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusCreated, fmt.Appendf(nil, `{"player":%q,"name":%q,"token":%q}`, id, in.Name, token))
}

func answer(w http.ResponseWriter, status int, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // who is gone shows by itself
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (g *game) postClaims(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	p, err := g.who(token)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytesMax))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b := batches.Get().(*batch)
	defer batches.Put(b)
	b.clear()
	var array, ok bool
	if b.claims, array, ok = wire.ScanClaims(body, b.claims, &b.text, bodiesMax); !ok {
		http.Error(w, "want a claim, or an array of them", http.StatusBadRequest)
		return
	}
	hunt := r.PathValue("hunt")
	for i := range b.claims {
		b.claims[i].Hunt = cairn.HuntID(hunt)
	}
	now := time.Now()
	if err := g.decide(r.Context(), p, b, now); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	status := http.StatusOK
	for i := range b.claims {
		b.out = g.appendOutcome(append(b.out, '{'), &b.claims[i], &b.outcomes[i], now)
		b.out = append(b.out, '}', ',')
		if !array && !b.outcomes[i].Won {
			status = http.StatusConflict
		}
	}
	out := b.out[:len(b.out)-1]
	if array {
		out = append(append([]byte{'['}, out...), ']')
	}
	answer(w, status, out)
}

// getStandings reads the view where the follower has it.
func (g *game) getStandings(w http.ResponseWriter, r *http.Request) {
	if g.follower == nil {
		http.NotFound(w, r)
		return
	}
	limit := standingsRows
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1000 {
			http.Error(w, "limit: want 1 to 1000", http.StatusBadRequest)
			return
		}
		limit = n
	}
	rows, err := g.follower.Query(r.Context(), "SELECT player, score, claims FROM standings WHERE hunt = $1 ORDER BY score DESC LIMIT $2", r.PathValue("hunt"), limit)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer rows.Close()
	b := append(make([]byte, 0, 96*limit), `{"rows":[`...)
	rank := 0
	for rows.Next() {
		var id string
		var score, claims int64
		if err := rows.Scan(&id, &score, &claims); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if rank++; rank > 1 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"rank":`...), int64(rank), 10)
		b = append(append(b, `,"player":"`...), id...)
		b = strconv.AppendInt(append(b, `","score":`...), score, 10)
		b = append(strconv.AppendInt(append(b, `,"claims":`...), claims, 10), '}')
	}
	if err := rows.Err(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, http.StatusOK, append(b, ']', '}'))
}

// getTally counts what the store holds, for who checks it.
func (g *game) getTally(w http.ResponseWriter, r *http.Request) {
	t, err := g.claimer.Tally(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, http.StatusOK, fmt.Appendf(nil, `{"tiles":%d,"events":%d}`, t.Tiles, t.Events))
}
