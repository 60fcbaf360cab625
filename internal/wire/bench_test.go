package wire

import (
	"fmt"
	"testing"

	"github.com/veltrix/cairn"
)

// BenchmarkClaims is what an append and a follower pay for a claim.
func BenchmarkClaims(b *testing.B) {
	claims := repeat(goldenClaims(b)[:2], 128)
	record := AppendClaims(nil, claims)
	b.Run("encode", func(b *testing.B) {
		buf := make([]byte, 0, len(record))
		b.ReportAllocs()
		for b.Loop() {
			buf = AppendClaims(buf[:0], claims)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(claims)), "ns/claim")
		b.ReportMetric(float64(len(record))/float64(len(claims)), "B/claim")
	})
	b.Run("decode", func(b *testing.B) {
		dst := make([]cairn.Claim, 0, len(claims))
		b.ReportAllocs()
		for b.Loop() {
			var err error
			if dst, err = DecodeClaims(dst[:0], record); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(claims)), "ns/claim")
	})
}

func BenchmarkMap(b *testing.B) {
	for _, tiles := range []int{1000, cairn.TilesPerMapMax} {
		m := goldenMap(b)
		m.Tiles = repeat(m.Tiles, tiles/3+1)[:tiles]
		m.MapHeader.Tiles = tiles
		m.Digest = MapDigest(m)
		bodies := records(m)
		b.Run(fmt.Sprintf("digest/tiles=%d", tiles), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				MapDigest(m)
			}
		})
		b.Run(fmt.Sprintf("fold/tiles=%d", tiles), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var fold MapFold
				for _, body := range bodies {
					if _, err := fold.Apply(body); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
