// Package e2e_test plays the game in a real Chromium: the page as it is
// embedded, the cairn binary as it is shipped, and between them the public API.
package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// screenshots is a folder to keep pictures of the page in, such as
// ../../docs/screenshots; empty keeps none.
var screenshots = flag.String("screenshots", "", "write pictures of the page to this folder")

var (
	cairnBinary string                             // built once
	chromium    context.Context                    // one browser for all tests; each test has its own tabs and storage
	noWebGL     func(t *testing.T) context.Context // another, started when first asked for
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	path, err := findChromium()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "cairn-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	cairnBinary = filepath.Join(dir, "cairn")
	build := exec.Command("go", "build", "-o", cairnBinary, "github.com/veltrix/cairn/cmd/cairn")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building cairn: %w\n%s", err, out)
	}

	start := func(name string, flags ...chromedp.ExecAllocatorOption) (context.Context, func()) {
		opts := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.UserDataDir(filepath.Join(dir, name)),
			chromedp.Flag("disable-component-update", true))
		alloc, stop := chromedp.NewExecAllocator(context.Background(), append(opts, flags...)...)
		ctx, end := chromedp.NewContext(alloc)
		return ctx, func() { end(); stop() }
	}
	// SwiftShader draws WebGL where there is no GPU.
	ctx, stop := start("chromium", chromedp.Flag("enable-unsafe-swiftshader", true))
	defer stop()
	chromium = ctx
	if err := chromedp.Do(chromium); err != nil {
		return 0, fmt.Errorf("starting %s: %w", path, err)
	}
	stopPlain := func() {}
	defer func() { stopPlain() }()
	plain := sync.OnceValues(func() (context.Context, error) {
		ctx, stop := start("chromium-plain", chromedp.Flag("disable-3d-apis", true))
		stopPlain = stop
		return ctx, chromedp.Do(ctx)
	})
	noWebGL = func(t *testing.T) context.Context {
		ctx, err := plain()
		if err != nil {
			t.Fatal(err)
		}
		return ctx
	}
	return m.Run(), nil
}

// findChromium returns a browser to test with, or says how to get one.
func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no chromium or google-chrome in PATH; install one: apt-get install -y chromium (make test does)")
}
