// Package origin says where the figures of a benchmark are of: labels beside
// them, and no more than that where they can't be found out.
package origin

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Machine returns the processor's name, where the system tells it, and how
// many cores there are.
func Machine() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // a label only: empty elsewhere
	if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(info); m != nil {
		return fmt.Sprintf("%s, %d cores", m[1], runtime.NumCPU())
	}
	return fmt.Sprintf("%d cores", runtime.NumCPU())
}

// Commit returns the checkout's commit, shortened.
func Commit() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown" // not in a checkout: a label only
	}
	return strings.TrimSpace(string(out))
}

// Command returns how make is told to do what a benchmark was told, but for
// flags that say where things are: that is no part of it.
func Command(target string, args []string, places ...string) string {
	var said []string
	for i := 0; i < len(args); i++ {
		name, _, whole := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case !slices.Contains(places, name):
			said = append(said, args[i])
		case !whole:
			i++
		}
	}
	if len(said) == 0 {
		return "make " + target
	}
	return fmt.Sprintf("make %s ARGS=%q", target, strings.Join(said, " "))
}
