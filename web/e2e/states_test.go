package e2e_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// set changes the hunt's state, as an operator does.
func (g *game) set(state string) {
	g.t.Helper()
	operator := &game{t: g.t, public: g.admin}
	operator.call("PATCH", "/admin/v1/hunts/e2e", "", map[string]string{"state": state}, 200, nil)
}

// A page that is open tells when the hunt is paused, goes on, and ends.
func TestHuntPauses(t *testing.T) {
	g := startGame(t, "region: {geohash: u4}\ntiles_per_map: 6\ntick: 1s\nlifetime: 30s\npuzzles: {tap: 1}\nreward: {min: 1, max: 1, budget: 1000}\n")
	p := g.open(chromium, phone)
	p.until(`Number($('open-count').innerText) > 0 && !$('notice')`)
	for _, step := range []struct{ state, says string }{
		{"paused", "The hunt is paused"}, {"live", ""}, {"ended", "This hunt has ended"},
	} {
		g.set(step.state)
		if step.says == "" {
			p.until(`!$('notice')`)
		} else {
			p.until(fmt.Sprintf(`$('notice').innerText.includes(%q)`, step.says))
		}
	}
}

// skewed shifts the clocks of the page by so many milliseconds.
const skewed = `{
	const by = %d, now = Date.now, origin = performance.timeOrigin + by;
	Date.now = () => now() + by;
	Object.defineProperty(performance, 'timeOrigin', { get: () => origin });
}`

// A player's clock that is hours off changes nothing: tiles are open for as
// long as the server says.
func TestSkewedClock(t *testing.T) {
	g := startGame(t, calmHunt("{lights: 1}"))
	for name, by := range map[string]int{"behind": -5 * 3600e3, "ahead": 5 * 3600e3} {
		t.Run(name, func(t *testing.T) {
			g := &game{t: t, public: g.public, admin: g.admin}
			p := g.open(chromium, phone, fmt.Sprintf(skewed, by))
			p.join("Saga")
			p.focusTile("lights")
			p.keys("\r")
			p.until(`$('puzzle-lights').dataset.ready === 'true'`)
			// The newest map is at most a tick old, and a look at it a moment.
			if left := eval[int](p, `parseInt(document.querySelector('.panel .left').innerText)`); left <= 0 || left > 180 {
				t.Errorf("the tile closes in %d s, want within its 3 minutes", left)
			}
		})
	}
}

// A page that was frozen, as browsers do with tabs that nobody looks at, knows
// what is open as soon as it wakes.
func TestFrozenPage(t *testing.T) {
	g := startGame(t, "region: {geohash: u4}\ntiles_per_map: 6\ntick: 1s\nlifetime: 3s\npuzzles: {tap: 1}\nreward: {min: 1, max: 1, budget: 1000}\n")
	p := g.open(chromium, phone)
	p.showTiles()
	lifecycle := func(state page.SetWebLifecycleStateState) {
		t.Helper()
		if _, err := chromedp.Call(p.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state}); err != nil {
			t.Fatal(err)
		}
	}
	current := func() (tick int64) {
		var m struct{ Tick int64 }
		g.call("GET", "/v1/hunts/e2e/maps/current", "", nil, 200, &m)
		return m.Tick
	}
	p.serverGone(true) // a frozen page is cut off, and the browser says so
	lifecycle(page.SetWebLifecycleStateStateFrozen)
	slept := current()
	eventually(t, "ten maps have opened", func() bool { return current() >= slept+10 })
	lifecycle(page.SetWebLifecycleStateStateActive)
	p.until(fmt.Sprintf(`$('pill').dataset.state === 'live' && $$('tile').length > 0 && $$('tile').every((tile) => parseInt(tile.dataset.key) > %d)`, slept+5))
}

// Names of any script keep to themselves: what runs from right to left does not
// turn the words around it, and a long one gives way to "you".
func TestNames(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	for _, name := range []string{"Wolfeschlegelsteinhausenbergerdorffwelch", "محمد بن عبد الله الطويل جدا", "👩‍👩‍👧‍👦 🏴‍☠️ 🦄 𝕮𝖆𝖎𝖗𝖓"} {
		t.Run(name, func(t *testing.T) {
			g := &game{t: t, public: g.public, admin: g.admin}
			p := g.open(chromium, phone, holdClaims)
			p.join(name)
			x := p.focusTile("tap")
			p.keys("\r")
			p.until(`heldClaims() === 1`)
			g.join(name).claim(x)
			eval[bool](p, `(releaseClaims(), true)`)
			p.toast("lost")
			p.until(fmt.Sprintf(`!$('tile', '[data-key="%s"]')`, x.key))
			// The name and what was done stand in reading order, one behind the other.
			if !eval[bool](p, `(() => {
				const title = $('toast').querySelector('b'), name = title.querySelector('bdi');
				const range = document.createRange();
				range.selectNodeContents(title.lastChild);
				const [said, who] = [range.getClientRects()[0], [...name.getClientRects()].at(-1)];
				return getComputedStyle(name).unicodeBidi === 'isolate' && (said.top > who.top || said.left >= who.right - 1);
			})()`) {
				t.Error("the message's words are out of order")
			}
			p.focusTile("tap")
			p.keys("\r")
			p.toast("won")
			p.click("open-board")
			p.until(`$('my-row')`)
			if !eval[bool](p, `(() => {
				const row = $('my-row').getBoundingClientRect(), you = $('my-row').querySelector('em').getBoundingClientRect(), tiles = $('my-row').querySelector('.claims').getBoundingClientRect();
				return you.width > 0 && you.right <= tiles.left && row.right <= innerWidth && row.height < 60;
			})()`) {
				t.Error("my row does not hold together")
			}
		})
	}
}

// Whoever asked for less motion gets none: nothing is animated.
func TestLessMotion(t *testing.T) {
	g := startGame(t, calmHunt("{echo: 1}"))
	p := g.open(chromium, phone)
	media := []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}}
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: media}); err != nil {
		t.Fatal(err)
	}
	p.join("Saga")
	p.focusTile("echo")
	p.keys("\r")
	p.until(`$('puzzle-echo').dataset.ready === 'true'`)
	if got := eval[[]string](p, `document.getAnimations().filter((a) => a.effect.getComputedTiming().activeDuration > 1).map((a) => a.animationName ?? a.transitionProperty)`); len(got) > 0 {
		t.Errorf("animated all the same: %q", got)
	}
}

// With keys alone: the header comes first, then the dock, then the map.
func TestTabOrder(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, desk)
	want := []string{"theme", "sign-in", "open-tiles", "open-board", "open-rewards", "map"}
	for _, id := range want {
		p.keys("\t")
		p.until(fmt.Sprintf(`document.activeElement.closest('[data-testid]')?.dataset.testid === %q`, id))
	}
}

// The welcome goes when it is dismissed, and does not come back.
func TestWelcome(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, phone)
	p.until(`$('welcome')`)
	p.must(chromedp.Click(chromedp.CSS(`[data-testid="welcome"] button`), chromedp.NodeVisible))
	p.until(`!$('welcome')`)
	p.must(chromedp.Reload())
	p.until(`$('pill').dataset.state === 'live' && !$('welcome')`)
}

// A server that stands still, with the network gone, is missed though its
// connection is never closed; with the network back the page plays on.
func TestNetworkAway(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, phone)
	me := p.join("Saga")
	p.serverGone(true)
	signal := func(s os.Signal) {
		t.Helper()
		if err := g.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	offline := func(yes bool) {
		t.Helper()
		if _, err := chromedp.Call(p.ctx, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: yes, DownloadThroughput: -1, UploadThroughput: -1}); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	offline(true)
	p.until(`$('pill').dataset.state === 'reconnecting'`)
	signal(syscall.SIGCONT)
	offline(false)
	p.until(`$('pill').dataset.state === 'live'`)
	x := p.focusTile("tap")
	p.keys("\r")
	p.toast("won")
	if !me.holds(x) {
		t.Errorf("tile %s is not mine", x.key)
	}
}
