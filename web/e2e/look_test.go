package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// tooSmall lists the controls that show and that a thumb would miss: under 44
// pixels either way, or half a pixel less where a grid shares out the width.
const tooSmall = `[...document.querySelectorAll('button, input, select')]
	.map((el) => [el, el.getBoundingClientRect()])
	.filter(([el, box]) => box.width > 0 && (box.width < 43.5 || box.height < 43.5))
	.filter(([el]) => !el.matches('.slot')) // the places of a long word: the letters above are as large
	.map(([el, box]) => (el.ariaLabel || el.innerText) + ' ' + Math.round(box.width) + '×' + Math.round(box.height))`

// nameless lists the controls that a screen reader has no name for.
const nameless = `[...document.querySelectorAll('button, input, select, a, [role=dialog], [role=application], dialog')]
	.filter((el) => el.checkVisibility() && !(el.ariaLabel || el.innerText.trim() || el.labels?.length || el.ariaLabelledByElements?.length))
	.map((el) => el.outerHTML.slice(0, 120))`

// furniture is what stands on the map.
const furniture = `[...document.querySelectorAll('header, nav, aside, .notice p, .panel, .toast, .buttons[role=group]')]
	.map((el) => [el, el.getBoundingClientRect()])
	.filter(([, box]) => box.width > 0)`

// offScreen lists what of the furniture sticks out of the screen.
const offScreen = furniture + `
	.filter(([, box]) => box.left < 0 || box.right > innerWidth || box.top < 0 || box.bottom > innerHeight + 1)
	.map(([el, box]) => el.className + ' ' + JSON.stringify(box))`

// overlapping lists the furniture on a desk that stands on other furniture. On a
// phone sheets do, and messages do anywhere, for a while.
const overlapping = `innerWidth < 700 ? [] : ` + furniture + `
	.filter(([el]) => !el.matches('.toast, .panel header'))
	.flatMap(([a, x], i, all) => all.slice(i + 1)
		.filter(([b, y]) => !a.contains(b) && x.left < y.right && y.left < x.right && x.top < y.bottom && y.top < x.bottom)
		.map(([b]) => a.className + ' and ' + b.className))`

// covered lists the buttons of panels that something else lies on, in the part
// of a panel that is scrolled into sight. A dialog that wants an answer covers all.
const covered = `document.querySelector(':modal') ? [] : [...document.querySelectorAll('.panel button')].flatMap((el) => {
	const box = el.getBoundingClientRect(), sight = el.closest('.body, .panel').getBoundingClientRect();
	const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
	const on = y > sight.top && y < sight.bottom && el.checkVisibility() ? document.elementFromPoint(x, y) : null;
	return on && !on.contains(el) && !el.contains(on) && !on.closest('.toast') ? [(el.ariaLabel || el.innerText) + ' by ' + on.tagName + '.' + on.className] : [];
})`

// pale lists words that do not stand out from what they stand on by what WCAG
// 2.2 AA asks (1.4.3). What is disabled is exempt, and the map's own canvas is
// not looked at.
const pale = `(() => {
	const pen = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
	const rgba = (color) => {
		pen.clearRect(0, 0, 1, 1);
		pen.fillStyle = color;
		pen.fillRect(0, 0, 1, 1);
		const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
		return [r, g, b, a / 255];
	};
	const over = (top, ground, a = top[3]) => [0, 1, 2].map((i) => top[i] * a + ground[i] * (1 - a));
	const light = (color) => {
		const [r, g, b] = color.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const ground = (el) => {
		if (!el) return rgba('white');
		const color = rgba(getComputedStyle(el).backgroundColor);
		return color[3] === 1 ? color : over(color, ground(el.parentElement));
	};
	const opacity = (el) => (el ? Number(getComputedStyle(el).opacity) * opacity(el.parentElement) : 1);
	return [...document.body.querySelectorAll('*')].filter((el) => {
		const words = [...el.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== '');
		const box = el.getBoundingClientRect();
		return words && box.width > 1 && box.height > 1 && el.checkVisibility() && !el.closest(':disabled, [aria-disabled=true], [inert], .map, noscript');
	}).flatMap((el) => {
		const style = getComputedStyle(el), on = ground(el), ink = rgba(style.color);
		const [a, b] = [light(over(ink, on, ink[3] * opacity(el))), light(on)].sort((a, b) => b - a);
		const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(style.fontSize);
		const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 600);
		return ratio < (large ? 3 : 4.5) ? [el.innerText.slice(0, 30) + ' (' + el.className + ') ' + ratio.toFixed(2)] : [];
	});
})()`

// The page holds together on a phone and on a desk, by day and by night: no
// part sticks out or lies on another, nothing is too small for a thumb, all
// words can be read, and all controls have names. With -screenshots it leaves pictures.
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
				for problem, list := range map[string]string{"too small": tooSmall, "off the screen": offScreen, "overlapping": overlapping, "covered": covered, "nameless": nameless, "pale": pale} {
					if got := eval[[]string](p, list); len(got) > 0 {
						t.Errorf("%s, %s: %q", what, problem, got)
					}
				}
				p.keep(name + "-" + what)
			}
			p.until(`Number($('open-count').innerText) > 20`)
			look("map")
			p.click("sign-in")
			p.until(`document.activeElement === $('name')`)
			look("sign-in")
			p.keys("\x1b")
			p.until(`!$('sign-in-dialog')`)
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
