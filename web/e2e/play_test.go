package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/veltrix/cairn"
)

// calmHunt has tiles of one kind, open for long enough that no test is late.
func calmHunt(puzzles string) string {
	return "region: {geohash: u4}\ntiles_per_map: 6\ntick: 5s\nlifetime: 3m\npuzzles: " + puzzles +
		"\nreward: {min: 10000, max: 500000, budget: 1000000000}\n"
}

// A newcomer signs in, claims a tile, and finds it everywhere that it shows.
func TestSignInAndClaim(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, phone)
	me := p.join("Saga")

	x := p.focusTile("tap")
	p.keys("\r")
	if got := p.toast("won"); !strings.Contains(got, "Yours") {
		t.Errorf("the page says %q, want that the tile is mine", got)
	}
	if !me.holds(x) {
		t.Errorf("the server does not say that tile %s is mine", x.key)
	}
	p.until(fmt.Sprintf(`$('my-tile', '[data-key="%s"]')`, x.key))
	p.until(fmt.Sprintf(`!$('tile', '[data-key="%s"]')`, x.key))

	p.click("open-board")
	p.until(fmt.Sprintf(`$('my-row').dataset.player === %q && $('my-row').dataset.rank === '1'`, me.id))
	p.click("open-rewards")
	p.until(`$$('reward').length === 1`)
	if got := eval[string](p, `$('reward').innerText`); !strings.Contains(got, "settled") {
		t.Errorf("the reward reads %q, want it settled", got)
	}

	// Whoever comes back is known.
	p.must(chromedp.Reload())
	p.until(`$('me').innerText.includes('Saga') && $('pill').dataset.state === 'live'`)
	p.showTiles()
	p.until(fmt.Sprintf(`$('my-tile', '[data-key="%s"]')`, x.key))
}

// A tap on the map itself claims, also for one who has yet to sign in.
func TestTapOnTheMap(t *testing.T) {
	tapOnTheMap(chromium, t, `.maplibregl-canvas`)
}

// Without WebGL there is the same chart on a 2D canvas.
func TestTapWithoutWebGL(t *testing.T) {
	tapOnTheMap(noWebGL(t), t, `canvas.ground`)
}

func tapOnTheMap(browser context.Context, t *testing.T, canvas string) {
	g := startGame(t, "region: {geohash: u4x}\ntiles_per_map: 40\nmask: none\ntick: 1s\nlifetime: 3m\npuzzles: {tap: 1}\nreward: {min: 1, max: 1, budget: 1000}\n")
	p := g.open(browser, desk)
	p.until(`Number($('open-count').innerText) > 0`)
	p.until(fmt.Sprintf(`document.querySelector(%q)`, canvas))
	// Look for a tile with the mouse: one under it says what it is.
	var x, y float64
	look := 0
	eventually(t, "there is a tile under the mouse", func() bool {
		x, y = float64(desk.width)/2+float64(look%7*20-60), float64(desk.height)/2+float64(look/7%7*20-60)
		look++
		p.must(chromedp.MouseEvent("mouseMoved", x, y))
		return eval[bool](p, `Boolean(document.querySelector('.tooltip')?.innerText.includes('tap'))`)
	})
	p.must(chromedp.MouseClickXY(x, y))
	p.until(`document.activeElement === $('name')`)
	p.keys("Saga\r")
	p.toast("won")
}

// holdClaims keeps claims from the socket until releaseClaims is called: a slow
// network, in which another is faster.
const holdClaims = `{
	const send = WebSocket.prototype.send, held = [];
	let open = false;
	WebSocket.prototype.send = function (frame) {
		if (!open && String(frame).includes('"type":"claim"')) held.push([this, frame]);
		else send.call(this, frame);
	};
	window.heldClaims = () => held.length;
	window.releaseClaims = () => { open = true; held.forEach(([socket, frame]) => send.call(socket, frame)); };
}`

// Whoever loses a race hears who won it, and by how much.
func TestLoseRace(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, phone, holdClaims)
	me := p.join("Saga")
	bo := g.join("Bo")

	x := p.focusTile("tap")
	p.keys("\r")
	p.until(`heldClaims() === 1`)
	bo.claim(x)
	p.until(fmt.Sprintf(`!$('tile', '[data-key="%s"]')`, x.key)) // the page sees that Bo has it
	eval[bool](p, `(releaseClaims(), true)`)

	got := p.toast("lost")
	var margin float64
	var unit string
	if _, err := fmt.Sscanf(got, "Bo was %f %s faster", &margin, &unit); err != nil || margin <= 0 {
		t.Errorf("the page says %q, want who won and by how much (%v)", got, err)
	}
	if me.holds(x) || !bo.holds(x) {
		t.Errorf("tile %s: mine %v, Bo's %v; want it Bo's", x.key, me.holds(x), bo.holds(x))
	}
}

// A puzzle whose tile is taken meanwhile closes, and says by whom.
func TestLoseAtThePuzzle(t *testing.T) {
	g := startGame(t, calmHunt("{lights: 1}"))
	p := g.open(chromium, desk)
	p.join("Saga")
	x := p.focusTile("lights")
	p.keys("\r")
	p.until(`$('puzzle-lights').dataset.ready === 'true'`)
	g.join("Bo").claim(x)
	if got := p.toast("lost"); !strings.Contains(got, "Bo took it first") {
		t.Errorf("the page says %q, want that Bo took it first", got)
	}
	p.until(`!$('puzzle')`)
}

// The server dies as in a power cut and comes back: so does the page, and what
// was acknowledged is there.
func TestReconnect(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, phone)
	me := p.join("Saga")
	x := p.focusTile("tap")
	p.keys("\r")
	p.toast("won")

	p.serverGone(true)
	g.kill()
	p.until(`$('pill').dataset.state === 'reconnecting'`)
	g.start()
	p.until(`$('pill').dataset.state === 'live'`)
	p.serverGone(false)

	if !me.holds(x) {
		t.Fatalf("tile %s is no longer mine", x.key)
	}
	p.showTiles()
	p.until(fmt.Sprintf(`$('my-tile', '[data-key="%s"]')`, x.key))
	p.click("open-board")
	p.until(`$('my-row').dataset.rank === '1'`)

	// And it plays on.
	p.dismissToasts()
	y := p.focusTile("tap")
	p.keys("\r")
	p.toast("won")
	if !me.holds(y) {
		t.Errorf("tile %s, claimed after the restart, is not mine", y.key)
	}
}

// A claim in flight when the server dies is asked again until it is answered.
func TestClaimWhileCutOff(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, desk, holdClaims)
	me := p.join("Saga")
	x := p.focusTile("tap")
	p.keys("\r")
	p.until(`heldClaims() === 1`)
	p.serverGone(true)
	g.kill()
	p.until(`$('pill').dataset.state === 'reconnecting'`)
	g.start()
	p.toast("won")
	p.serverGone(false)
	if !me.holds(x) {
		t.Errorf("tile %s is not mine", x.key)
	}
}

// Every kind of puzzle can be solved with the keyboard alone.
func TestPuzzlesByKeyboard(t *testing.T) {
	type solver func(p *tab, answer string)
	for kind, solve := range map[cairn.PuzzleKind]solver{
		cairn.Cipher: func(p *tab, answer string) { p.keys(answer + "\r") },
		cairn.Lights: keyLights,
		cairn.Echo: func(p *tab, answer string) {
			for _, pad := range answer { // key 1 is pad 0
				p.keys(string(pad + 1))
			}
		},
		cairn.Odd: keyOdd,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			g := startGame(t, calmHunt("{"+kind.String()+": 1}"))
			p := g.open(chromium, phone)
			me := p.join("Saga")
			x := p.focusTile(kind.String())
			p.keys("\r")
			p.until(fmt.Sprintf(`$('puzzle-%s').dataset.ready === 'true' && $('puzzle').contains(document.activeElement)`, kind))
			asked, answer, _ := me.solve(x)
			if asked != kind {
				t.Fatalf("the tile asks %v, want %v", asked, kind)
			}
			solve(p, answer)
			p.toast("won")
			if !me.holds(x) {
				t.Errorf("tile %s is not mine", x.key)
			}
			p.until(`!$('puzzle')`)
		})
	}
}

// keyLights walks the board row by row and presses what the answer says.
func keyLights(p *tab, answer string) {
	walk(p, "light", 5, answer, func(i int) bool { return answer[i] == '1' })
}

// keyOdd walks to the odd cell in each of the rounds.
func keyOdd(p *tab, answer string) {
	for round, cell := range strings.Split(answer, ",") {
		p.until(fmt.Sprintf(`$('puzzle').innerText.includes('Round %d') && document.activeElement === $('cell-0')`, round+1))
		walk(p, "cell", 8, strings.Repeat(" ", 64), func(i int) bool { return fmt.Sprint(i) == cell })
	}
}

// walk moves the focus with the arrow keys from the first button of a grid to
// each that is to be pressed, and presses it.
func walk(p *tab, what string, columns int, cells string, press func(i int) bool) {
	const down, right, left = "\u0301", "\u0303", "\u0302"
	at := 0
	for i := range cells {
		if !press(i) {
			continue
		}
		for ; at/columns < i/columns; at += columns {
			p.keys(down)
		}
		for ; at < i; at++ {
			p.keys(right)
		}
		for ; at > i; at-- {
			p.keys(left)
		}
		p.until(fmt.Sprintf(`document.activeElement === $('%s-%d')`, what, i))
		p.keys("\r")
	}
}

// A wrong answer says how many tries are left; the last ends it. Escape closes.
func TestWrongAnswers(t *testing.T) {
	g := startGame(t, calmHunt("{echo: 1}"))
	p := g.open(chromium, phone)
	me := p.join("Saga")
	p.focusTile("echo")
	p.keys("\r")
	p.until(`$('puzzle-echo').dataset.ready === 'true'`)
	p.keys("\x1b")
	p.until(`!$('puzzle') && $('panel-tiles')`)

	x := p.focusTile("echo")
	p.keys("\r")
	p.until(`$('puzzle-echo').dataset.ready === 'true'`)
	_, answer, _ := me.solve(x)
	wrong := strings.Repeat("1", 6)
	if answer == "000000" {
		wrong = strings.Repeat("2", 6)
	}
	for _, note := range []string{"2 tries left", "1 try left"} {
		p.until(`$('puzzle').contains(document.activeElement) && !$('puzzle-echo').inert`)
		p.keys(wrong)
		p.until(fmt.Sprintf(`$('note').innerText.includes(%q)`, note))
	}
	p.until(`$('puzzle').contains(document.activeElement) && !$('puzzle-echo').inert`)
	p.keys(wrong)
	if got := p.toast("lost"); !strings.Contains(got, "no tries left") {
		t.Errorf("the page says %q, want that no tries are left", got)
	}
	p.until(`!$('puzzle')`)
}

// A token that the server does not take leads back to the sign-in.
func TestSignInAgain(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, phone)
	p.serverGone(true) // a refused token shows in the browser's log
	eval[bool](p, `(localStorage.setItem('cairn.session', JSON.stringify({player: 'x', name: 'Nobody', token: 'forged'})), true)`)
	p.must(chromedp.Reload())
	p.until(`$('sign-in-dialog')`)
	p.until(`document.activeElement === $('name')`)
	p.keys("Saga\r")
	p.until(`$('me').innerText.includes('Saga') && $('pill').dataset.state === 'live'`)
}

// A name that can't be is refused with the reason, and the dialog stays.
func TestBadName(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, phone)
	p.serverGone(true) // the refusal shows in the browser's log
	p.click("sign-in")
	p.until(`document.activeElement === $('name')`)
	eval[bool](p, `(($('name').value = 'a\u202eb'), $('name').dispatchEvent(new Event('input', {bubbles: true})), true)`)
	p.keys("\r")
	p.until(`$('sign-in-trouble').innerText.includes('name')`)
	p.until(`$('sign-in-dialog')`)
}
