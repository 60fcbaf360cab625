package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// tooSmall lists the buttons that show and that a thumb would miss.
const tooSmall = `[...document.querySelectorAll('button, input, select')]
	.map((el) => [el, el.getBoundingClientRect()])
	.filter(([el, box]) => box.width > 0 && (box.width < 32 || box.height < 32))
	.map(([el, box]) => (el.ariaLabel || el.innerText) + ' ' + Math.round(box.width) + '×' + Math.round(box.height))`

// offScreen lists what of the page's furniture sticks out of the screen.
const offScreen = `[...document.querySelectorAll('header, nav, .panel, .toast, .buttons')]
	.map((el) => [el, el.getBoundingClientRect()])
	.filter(([, box]) => box.width > 0 && (box.left < 0 || box.right > innerWidth || box.top < 0 || box.bottom > innerHeight + 1))
	.map(([el, box]) => el.className + ' ' + JSON.stringify(box))`

// The page holds together on a phone and on a desk, by day and by night: no
// part sticks out, and nothing is too small for a thumb. With -screenshots it
// leaves pictures.
func TestLook(t *testing.T) {
	g := startGame(t, "region: {bbox: [4, 57, 32, 71]}\ntiles_per_map: 30\ntick: 1s\nlifetime: 30s\n"+
		"puzzles: {tap: 3, cipher: 2, lights: 2, echo: 1, odd: 1}\nreward: {min: 10000, max: 500000, budget: 100000000000}\n")
	for name, s := range map[string]screen{
		"phone-light": phone, "phone-dark": {phone.width, phone.height, true},
		"desk-light": desk, "desk-dark": {desk.width, desk.height, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := &game{t: t, public: g.public, admin: g.admin}
			p := g.open(chromium, s)
			look := func(what string) {
				t.Helper()
				p.until(`document.getAnimations().filter((a) => a.effect.getTiming().iterations !== Infinity).every((a) => a.playState === 'finished')`)
				for problem, list := range map[string]string{"too small": tooSmall, "off the screen": offScreen} {
					if got := eval[[]string](p, list); len(got) > 0 {
						t.Errorf("%s, %s: %q", what, problem, got)
					}
				}
				p.keep(name + "-" + what)
			}
			p.until(`Number($('open-count').innerText) > 20`)
			look("map")
			p.join("Saga")
			p.focusTile("tap")
			p.keys("\r")
			p.toast("won")
			look("tiles")
			p.click("open-board")
			p.until(`$('my-row')`)
			look("ranks")
			p.dismissToasts()
			for _, kind := range []string{"cipher", "lights", "echo", "odd"} {
				p.focusTile(kind)
				p.keys("\r")
				p.until(fmt.Sprintf(`$('puzzle-%s').dataset.ready === 'true'`, kind))
				look(kind)
				p.keys("\x1b")
				p.until(`!$('puzzle')`)
			}
			p.click("open-rewards")
			p.until(`$('reward')`)
			look("rewards")
		})
	}
}

// keep writes a picture of the page, if pictures are wanted.
func (p *tab) keep(name string) {
	p.t.Helper()
	if *screenshots == "" {
		return
	}
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
