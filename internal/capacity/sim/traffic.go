package sim

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Point is what there is to carry at a moment. Between two points both change
// evenly; two points at one moment are a jump.
type Point struct {
	At          time.Duration `json:"at"`
	Connections float64       `json:"connections"`  // clients that want to watch
	Events      float64       `json:"events_per_s"` // attempts, all players together
}

// Columns are those of a CSV of traffic, in any order, named in its first line.
var Columns = []string{"minute", "connections", "events_per_s"}

const (
	pointsMax = 100_000
	spanMax   = 31 * 24 * time.Hour
)

// ReadCSV reads traffic. Minutes are numbers from 0 on, fractions too, and never
// go back; lines that begin with # are comments. Its errors name line and field.
func ReadCSV(r io.Reader) ([]Point, error) {
	in := csv.NewReader(r)
	in.Comment, in.TrimLeadingSpace, in.ReuseRecord = '#', true, true
	head, err := in.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("line 1: is empty; want the columns %s", strings.Join(Columns, ","))
		}
		return nil, err
	}
	place := make([]int, len(Columns))
	for i, name := range Columns {
		if place[i] = slices.Index(head, name); place[i] < 0 {
			return nil, fmt.Errorf("line 1: %s: is not among the columns %s; want %s", name, strings.Join(head, ","), strings.Join(Columns, ","))
		}
	}
	for _, name := range head {
		if !slices.Contains(Columns, name) {
			return nil, fmt.Errorf("line 1: %s: no such column; want %s", name, strings.Join(Columns, ","))
		}
	}
	if len(head) != len(Columns) {
		return nil, fmt.Errorf("line 1: has %d columns; want each of %s once", len(head), strings.Join(Columns, ","))
	}
	var points []Point
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // names the line
			return nil, err
		}
		var x [3]float64
		for i := range Columns {
			line, _ := in.FieldPos(place[i])
			if x[i], err = number(row[place[i]], i); err != nil {
				return nil, fmt.Errorf("line %d: %s: %w", line, Columns[i], err)
			}
		}
		p := Point{time.Duration(x[0] * float64(time.Minute)), x[1], x[2]}
		line, _ := in.FieldPos(place[0])
		if n := len(points); n > 0 && p.At < points[n-1].At {
			return nil, fmt.Errorf("line %d: minute: is %g, before the %g above; want time to go forward", line, x[0], points[n-1].At.Minutes())
		}
		if points = append(points, p); len(points) > pointsMax {
			return nil, fmt.Errorf("line %d: has more than %d points; want fewer", line, pointsMax)
		}
	}
	return points, check(points)
}

// mosts are the largest values that columns may have.
var mosts = []float64{spanMax.Minutes(), 2e6, 1e9}

func number(s string, column int) (float64, error) {
	x, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(x) || x < 0 || x > mosts[column] {
		return 0, fmt.Errorf("is %.40q; want a number, 0 to %.0f", s, mosts[column])
	}
	return x, nil
}

func check(points []Point) error {
	if len(points) < 2 || points[len(points)-1].At-points[0].At < time.Minute {
		return fmt.Errorf("traffic has %d points; want two or more, over a minute or longer", len(points))
	}
	return nil
}

// at returns what there is to carry at a moment, by the points around it. i is
// where the search begins, and begins the next one.
func at(points []Point, t time.Duration, i int) (Point, int) {
	for i+1 < len(points) && points[i+1].At <= t {
		i++
	}
	if i+1 == len(points) || t < points[i].At {
		return Point{t, points[i].Connections, points[i].Events}, i
	}
	a, b := points[i], points[i+1]
	part := float64(t-a.At) / float64(b.At-a.At)
	return Point{t, a.Connections + part*(b.Connections-a.Connections), a.Events + part*(b.Events-a.Events)}, i
}

// February is the original's surge: 500 players become 10,000, with bursts of up
// to 10,000 connections in a moment. What is published is that; when within two
// and a half hours, and that a player makes 6.7 events a second (2 million of
// 300,000), is assumed.
func February() []Point {
	const each = 2e6 / 300_000
	var points []Point
	for _, p := range []struct{ minute, connections float64 }{
		{0, 500},
		{20, 600},
		{20, 2_500}, // the first are told of it
		{30, 3_000},
		{30, 10_000}, // and all the others
		{60, 10_000},
		{60, 500}, // a proxy is restarted: everybody is cut,
		{60.05, 500},
		{60.05, 10_000}, // and comes back at once
		{100, 9_000},
		{120, 4_000},
		{150, 600},
	} {
		points = append(points, Point{time.Duration(p.minute * float64(time.Minute)), p.connections, p.connections * each})
	}
	return points
}
