package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/veltrix/cairn"
)

// The decoders of records share one promise: bytes either are what an encoder
// writes, to the last one, or are refused with ErrMalformed.

func FuzzDecodeClaims(f *testing.F) {
	f.Add(readGolden(f, "claims"))
	f.Add(AppendClaims(nil, nil))
	f.Add([]byte{tagClaims, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		claims, err := DecodeClaims(nil, b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v is no ErrMalformed", err)
			}
			return
		}
		if again := AppendClaims(nil, claims); !bytes.Equal(again, b) {
			t.Errorf("decoded %x, encoded %x", b, again)
		}
	})
}

func FuzzDecodeBoard(f *testing.F) {
	board := readGolden(f, "board")
	f.Add(board)
	f.Add(append(bytes.Clone(board), board...))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := DecodeBoards(b)
		x, errOne := DecodeBoard(b)
		if one := err == nil && len(all) == 1; one != (errOne == nil) || one && !cmp.Equal(all[0], x) {
			t.Errorf("as boards %v, error %v; as one %v, error %v", all, err, x, errOne)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) || all != nil {
				t.Errorf("%v, error %v", all, err)
			}
			return
		}
		var again []byte
		for _, x := range all {
			again = AppendBoard(again, x)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("decoded %x, encoded %x", b, again)
		}
	})
}

// FuzzMapFold gives a fold two records of anything and then a good map, which
// must come through.
func FuzzMapFold(f *testing.F) {
	chunk, header := readGolden(f, "mapchunk"), readGolden(f, "mapheader")
	f.Add(chunk, header)
	f.Add(header, chunk)
	f.Add(chunk, chunk)
	f.Add(readGolden(f, "board"), []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var fold MapFold
		for _, body := range [][]byte{a, b} {
			m, err := fold.Apply(body)
			if err != nil && (m != nil || !errors.Is(err, ErrMalformed)) {
				t.Errorf("%v, error %v", m, err)
			}
			if m == nil {
				continue
			}
			if MapDigest(m) != m.Digest || len(m.Tiles) != m.MapHeader.Tiles || !bytes.Equal(AppendMapHeader(nil, &m.MapHeader), body) {
				t.Errorf("map %+v is not what was written", m)
			}
			if again := AppendMapChunk(nil, m, 0); !bytes.Equal(again, a) {
				t.Errorf("decoded %x, encoded %x", a, again)
			}
		}
		if m, err := fold.Apply(chunk); m != nil || err != nil {
			t.Errorf("a good chunk: %v, %v", m, err)
		}
		if m, err := fold.Apply(header); m == nil || err != nil {
			t.Errorf("a good header: %v, %v", m, err)
		}
	})
}

func FuzzDecodeChange(f *testing.F) {
	f.Add([]byte(`{"who":"eve","when":"2026-01-01T00:00:00.000Z","hunt":"a","state":"live"}`))
	f.Add([]byte(`{"who":"eve","when":"2026-01-01T00:00:00Z","hunt":"a","create":{"name":"a","region":{"geohash":""},"mask":"none",` +
		`"tiles_per_map":1,"tick":"1s","lifetime":"30s","shards":1,"puzzles":{"tap":1},"reward":{"min":0,"max":1,"budget":2}}}`))
	f.Add([]byte(`{"create":{"region":{"geojson":null,"bbox":[1,2,3,4]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeChange(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v is no ErrMalformed", err)
			}
			return
		}
		// What was read can be written, and then reads the same for ever.
		once, err := AppendChange(nil, &c)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		back, err := DecodeChange(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		twice, err := AppendChange(nil, &back)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s became %s, %v", once, twice, err)
		}
		var hs cairn.Hunts // no change breaks a fold
		hs.Apply(c)
		if hs.Check(c) == nil && c.Create != nil {
			t.Errorf("%s can be created twice: %s", c.Hunt, cmp.Diff(c, back))
		}
	})
}
