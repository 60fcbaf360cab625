package gap

import (
	"testing"
	"time"
)

func at(ms int) time.Time { return time.UnixMilli(1_000_000 + int64(ms)) }

func TestLongest(t *testing.T) {
	var tr Track
	for _, ms := range []int{0, 20, 40, 400, 390, 420, 1000, 1010} {
		tr.Good(at(ms))
	}
	cases := []struct {
		name     string
		from, to int
		want     int
	}{
		{"before the first", -500, -100, 0},
		{"even", 0, 35, 0},
		{"a gap begins before and ends in it", 100, 410, 360},
		{"a gap begins in it and ends after", 0, 100, 360},
		{"it lies in a gap", 500, 600, 580},
		{"two gaps", 0, 1005, 580},
		{"one that has not ended", 1010, 1300, 290},
		{"one that has not ended and is short", 1010, 1030, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := tr.Longest(at(c.from), at(c.to)).Length(); got != time.Duration(c.want)*time.Millisecond {
				t.Errorf("the longest gap from %d to %d is %v, want %dms", c.from, c.to, got, c.want)
			}
		})
	}
	if tr.Heard(at(1011)) || !tr.Heard(at(1010)) {
		t.Error("the last that was heard is not the one at 1010")
	}
}

func TestLate(t *testing.T) {
	var late, even Track
	late.Late(at(1000), at(1020), at(2000))
	late.Late(at(2000), at(2900), at(3000))
	for ms := range 3000 {
		even.Good(at(ms))
	}
	got := Longest([]*Track{&even, &late}, at(1500), at(2950))
	if want := (Gap{at(2000), at(2900)}); got != want {
		t.Errorf("the longest gap is %v, want %v", got, want)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []time.Duration
		want time.Duration
	}{{nil, 0}, {[]time.Duration{3}, 3}, {[]time.Duration{9, 1, 4}, 4}, {[]time.Duration{9, 1, 4, 5}, 4}} {
		if got := Median(c.of); got != c.want {
			t.Errorf("the median of %v is %v, want %v", c.of, got, c.want)
		}
	}
}
