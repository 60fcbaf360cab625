//go:build unix

package monitor

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestHurried: of the shipped rules the autoscaler's alone are hurried, and all
// of them.
func TestHurried(t *testing.T) {
	b, err := os.ReadFile("../../../ops/prometheus/recording.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules := string(b)
	got, err := hurried(rules, time.Second, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got, "[1m]") {
		t.Error("some rule looks back a minute still")
	}
	if n, want := strings.Count(got, "[5s]"), strings.Count(rules, "[1m]"); n != want || n == 0 {
		t.Errorf("%d windows of 5 s, want %d", n, want)
	}
	if before, after := strings.Count(rules, "5m]"), strings.Count(got, "5m]"); before != after {
		t.Errorf("%d windows of 5 minutes, want %d as before", after, before)
	}
	if back := strings.NewReplacer("[5s]", "[1m]", "interval: 1s", "interval: 15s").Replace(got); back != rules {
		t.Error("something else was changed than windows and the interval")
	}
	if _, err := hurried(strings.ReplaceAll(rules, "cairn-scaling", "else"), time.Second, time.Second); err == nil {
		t.Error("rules without the group are taken; want an error")
	}
}
