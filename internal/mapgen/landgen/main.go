// Command landgen makes land.bin.gz, the land mask of package mapgen: which of
// the 2^25 geohashes of five characters are land.
//
//	go generate ./internal/mapgen
//
// Its source is Natural Earth (public domain), 1:50 million, as the npm package
// world-atlas 2.0.2 has it in TopoJSON. npm is needed here, and nowhere else.
// A cell is land if its centre is. Lakes are land; the Caspian Sea, which
// Natural Earth counts as ocean, is sea.
//
// Format: gzip of varint run lengths over the cells in the order of their
// bits, sea and land in turn, sea first.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/golang/geo/s2"
	"github.com/mmcloughlin/geohash"
)

const (
	source    = "world-atlas@2.0.2"
	member    = "package/land-50m.json"
	memberSum = "619477ff690c086885e45cb91707d783805561bd75ae8e437b7d4694b0204e0f"
	cellBits  = 25
)

func main() {
	log.SetFlags(0)
	in := flag.String("in", "", "the TopoJSON file; empty packs "+source+" with npm")
	out := flag.String("out", "land.bin.gz", "where the mask goes")
	flag.Parse()
	if err := run(*in, *out); err != nil {
		log.Fatal("landgen: ", err)
	}
}

func run(in, out string) error {
	raw, err := read(in)
	if err != nil {
		return err
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(raw)); sum != memberSum {
		return fmt.Errorf("%s: SHA-256 is %s, want %s", member, sum, memberSum)
	}
	land, err := polygon(raw)
	if err != nil {
		return err
	}
	file, cells, err := encode(rasterise(land))
	if err != nil {
		return err
	}
	log.Printf("%d of %d cells are land, %d bytes", cells, 1<<cellBits, len(file))
	return os.WriteFile(out, file, 0o644)
}

// read returns the TopoJSON, out of the file or else out of the npm package.
func read(in string) ([]byte, error) {
	if in != "" {
		return os.ReadFile(in)
	}
	dir, err := os.MkdirTemp("", "landgen")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("npm", "pack", "--silent", source)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	name, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("npm pack %s: %w", source, err)
	}
	f, err := os.Open(filepath.Join(dir, strings.TrimSpace(string(name))))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err != nil {
			return nil, fmt.Errorf("%s in %s: %w", member, source, err)
		}
		if h.Name == member {
			return io.ReadAll(t)
		}
	}
}

type topology struct {
	Transform struct{ Scale, Translate [2]float64 }
	Arcs      [][][2]float64 // quantised, each point a difference to the one before
	Objects   struct {
		Land struct {
			Geometries []struct {
				Type string
				Arcs [][][]int // polygons of rings of arcs; ^i is arc i backwards
			}
		}
	}
}

// polygon puts the land together on the sphere. TopoJSON's rings run clockwise
// around their land, S2's the other way, so they are reversed. It must be the
// sphere: on a plane, the rings that go around a pole or over ±180° come out
// inside out.
func polygon(raw []byte) (*s2.Polygon, error) {
	var t topology
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, err
	}
	var loops []*s2.Loop
	for _, g := range t.Objects.Land.Geometries {
		if g.Type != "MultiPolygon" {
			return nil, fmt.Errorf("geometry is a %s, want MultiPolygon", g.Type)
		}
		for _, rings := range g.Arcs {
			for _, arcs := range rings {
				l := s2.LoopFromPoints(t.ring(arcs))
				if err := l.Validate(); err != nil {
					return nil, err
				}
				loops = append(loops, l)
			}
		}
	}
	if len(loops) == 0 {
		return nil, errors.New("no land")
	}
	return s2.PolygonFromOrientedLoops(loops), nil
}

// ring returns the points of a ring in reverse, each once.
func (t *topology) ring(arcs []int) []s2.Point {
	var pts []s2.Point
	for _, i := range arcs {
		arc := t.points(max(i, ^i))
		if i < 0 {
			for l, r := 0, len(arc)-1; l < r; l, r = l+1, r-1 {
				arc[l], arc[r] = arc[r], arc[l]
			}
		}
		for _, p := range arc {
			if len(pts) == 0 || pts[len(pts)-1] != p {
				pts = append(pts, p)
			}
		}
	}
	if len(pts) > 1 && pts[0] == pts[len(pts)-1] {
		pts = pts[1:]
	}
	for l, r := 0, len(pts)-1; l < r; l, r = l+1, r-1 {
		pts[l], pts[r] = pts[r], pts[l]
	}
	return pts
}

func (t *topology) points(arc int) []s2.Point {
	pts := make([]s2.Point, 0, len(t.Arcs[arc]))
	var x, y float64
	for _, d := range t.Arcs[arc] {
		x, y = x+d[0], y+d[1]
		lng := x*t.Transform.Scale[0] + t.Transform.Translate[0]
		lat := y*t.Transform.Scale[1] + t.Transform.Translate[1]
		pts = append(pts, s2.PointFromLatLng(s2.LatLngFromDegrees(lat, lng)))
	}
	return pts
}

// rasterise returns a bit a cell.
func rasterise(land *s2.Polygon) []uint64 {
	index := s2.NewShapeIndex()
	index.Add(land)
	index.Build()
	words := make([]uint64, 1<<cellBits/64)
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for w := range workers {
		part := words[w*len(words)/workers : (w+1)*len(words)/workers]
		first := uint64(w*len(words)/workers) * 64
		wg.Go(func() {
			q := s2.NewContainsPointQuery(index, s2.VertexModelSemiOpen)
			for i := range uint64(len(part)) * 64 {
				lat, lng := geohash.BoundingBoxIntWithPrecision(first+i, cellBits).Center()
				if q.Contains(s2.PointFromLatLng(s2.LatLngFromDegrees(lat, lng))) {
					part[i/64] |= 1 << (i % 64)
				}
			}
		})
	}
	wg.Wait()
	return words
}

// encode returns the file of a mask and how many cells of it are land.
func encode(words []uint64) (file []byte, cells int, err error) {
	var runs []byte
	var length uint64
	value := uint64(0)
	for i := range uint64(len(words)) * 64 {
		bit := words[i/64] >> (i % 64) & 1
		cells += int(bit)
		if bit != value {
			runs = binary.AppendUvarint(runs, length)
			length, value = 0, bit
		}
		length++
	}
	runs = binary.AppendUvarint(runs, length)
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, 0, err
	}
	if _, err := z.Write(runs); err != nil {
		return nil, 0, err
	}
	err = z.Close()
	return b.Bytes(), cells, err
}
