//go:build unix

package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn"
)

// A quantiles is how long one thing at a time took, in microseconds.
type quantiles struct {
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
}

// A Lone is one claim at a time on one Redis, and beside it what Redis itself
// takes: an XADD by the same client library.
type Lone struct {
	Claim quantiles `json:"claim"`
	XADD  quantiles `json:"xadd"`
}

// idle times n claims of n tiles, each after an XADD of as many bytes.
func (b *bench) idle(ctx context.Context, n int) (_ *Lone, err error) {
	w, err := newWorkload(Uniform, tilesAMap)
	if err != nil {
		return nil, err
	}
	if n > tilesAMap {
		return nil, fmt.Errorf("%d claims at idle: want at most %d", n, tilesAMap)
	}
	for i := range w.ops { // each tile once
		w.ops[i] = op{tile: uint16(i), player: w.ops[i].player}
	}
	s := newScene(w)
	c, err := contenderOf(OursRedis)
	if err != nil {
		return nil, err
	}
	system, err := c.open(ctx, b, s, tilesAMap)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, system.close()) }()
	redis, err := b.redis(ctx, "redis")
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{redis.Addr}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	claims, adds := newLatency(), newLatency()
	as := make([]cairn.Attempt, 1)
	body := string(make([]byte, 200)) // a record with one claim and its frame
	for i := range n {
		begin := time.Now()
		if err := client.Do(ctx, client.B().Xadd().Key("bare").Id("*").FieldValue().FieldValue("b", body).Build()).Error(); err != nil {
			return nil, err
		}
		added := time.Now()
		s.ours(as, i)
		v, err := system.(*borrowed).Service.Claim(ctx, &as[0])
		if err != nil {
			return nil, err
		}
		if v.Outcome != cairn.Won {
			return nil, fmt.Errorf("claim %d at idle: %v; want won", i, v.Outcome)
		}
		adds.record(added.Sub(begin), 1)
		claims.record(time.Since(added), 1)
	}
	return &Lone{Claim: quantiles{claims.at(50), claims.at(99)}, XADD: quantiles{adds.at(50), adds.at(99)}}, nil
}
