package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A tab is the player page in a browser context of its own: nothing that
// another test stored is there.
type tab struct {
	t   testing.TB
	g   *game
	ctx context.Context

	mu       sync.Mutex
	offline  bool     // the server is down: failed requests are no fault
	troubles []string // exceptions, errors on the console, requests to elsewhere
}

// A screen is what a player looks at.
type screen struct {
	width, height int64
	dark          bool
}

var (
	phone = screen{width: 360, height: 740}
	desk  = screen{width: 1440, height: 900}
)

// open opens the page and waits until its map is drawn and it is live. init
// is JavaScript that runs before the page's own.
func (g *game) open(browser context.Context, s screen, init ...string) *tab {
	g.t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	g.t.Cleanup(cancel)
	p := &tab{t: g.t, g: g, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first action
		g.t.Fatal(err)
	}
	p.must(chromedp.EmulateViewport(s.width, s.height))
	if err := chromedp.Listen(ctx, p.heard); err != nil {
		g.t.Fatal(err)
	}
	scheme := "light"
	if s.dark {
		scheme = "dark"
	}
	media := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: media}); err != nil {
		g.t.Fatal(err)
	}
	for _, source := range init {
		if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: source}); err != nil {
			g.t.Fatal(err)
		}
	}
	p.must(chromedp.Navigate(g.url()))
	p.until(`$('map').dataset.settled === 'true'`)
	p.until(`$('pill').dataset.state === 'live'`)
	g.t.Cleanup(p.check)
	return p
}

// heard notes what must not happen on any page.
func (p *tab) heard(ev any) {
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(ev.Request.URL); err == nil && u.Scheme != "blob" && u.Host != p.g.public {
			p.trouble("a request to elsewhere: " + ev.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		p.trouble("an exception: " + mustJSON(ev.ExceptionDetails))
	case *cdplog.EventEntryAdded:
		p.mu.Lock()
		network := p.offline && ev.Entry.Source == "network"
		p.mu.Unlock()
		if ev.Entry.Level == "error" && !network {
			p.trouble(fmt.Sprintf("the browser's log: %s (%s)", ev.Entry.Text, ev.Entry.URL))
		}
	}
}

func (p *tab) trouble(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubles = append(p.troubles, what)
}

// check fails the test for what heard noted.
func (p *tab) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, what := range p.troubles {
		p.t.Error(what)
	}
}

// serverGone tells that requests fail from here on, or no longer.
func (p *tab) serverGone(gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offline = gone
}

func (p *tab) must(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// prelude gives tests' JavaScript $ and $$: elements by data-testid.
const prelude = `const $ = (id, more = '') => document.querySelector('[data-testid="' + id + '"]' + more),
	$$ = (id, more = '') => [...document.querySelectorAll('[data-testid="' + id + '"]' + more)];`

// eval evaluates an expression in the page.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](`(() => {`+prelude+` return (`+expression+`); })()`))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits until a condition holds in the page; what throws does not hold.
func (p *tab) until(condition string) {
	p.t.Helper()
	wait := fmt.Sprintf(`new Promise((ok, no) => {
		%s
		const end = Date.now() + %d;
		const look = () => {
			let holds = false;
			try { holds = Boolean(%s); } catch {}
			if (holds) ok(true);
			else if (Date.now() > end) no(new Error('not in time; the page says: ' + document.body.innerText.slice(0, 800)));
			else setTimeout(look, 15);
		};
		look();
	})`, prelude, patience.Milliseconds(), condition)
	ctx, cancel := context.WithTimeout(p.ctx, patience+10*time.Second)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](wait, chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatalf("until %s: %v", condition, err)
	}
}

// click clicks the element of a test id with the mouse, once it is there.
func (p *tab) click(id string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`$(%q)`, id))
	p.must(chromedp.Click(chromedp.CSS(fmt.Sprintf(`[data-testid=%q]`, id)), chromedp.NodeVisible))
}

// keys presses keys, one after the other.
func (p *tab) keys(keys string) {
	p.t.Helper()
	p.must(chromedp.KeyEvent(keys))
}

// join signs in through the dialog, and returns the player with the token that
// the page keeps.
func (p *tab) join(name string) player {
	p.t.Helper()
	p.click("sign-in")
	p.until(`document.activeElement === $('name')`)
	p.keys(name + "\r")
	p.until(`$('me') && !$('sign-in-dialog') && $('pill').dataset.state === 'live'`)
	session := eval[map[string]string](p, `JSON.parse(localStorage.getItem('cairn.session'))`)
	return player{p.g, session["player"], session["token"]}
}

// showTiles opens the list of tiles.
func (p *tab) showTiles() {
	p.t.Helper()
	if !eval[bool](p, `Boolean($('panel-tiles'))`) {
		p.click("open-tiles")
	}
	p.until(`$('tile')`)
}

// focusTile puts the focus on a listed tile of a kind, with time left to play,
// and returns it.
func (p *tab) focusTile(kind string) tile {
	p.t.Helper()
	p.showTiles()
	p.until(fmt.Sprintf(`($('tile', '[data-kind=%s]').focus(), document.activeElement.dataset.kind === %[1]q)`, kind))
	return parseTile(p.t, eval[string](p, `document.activeElement.dataset.key`))
}

// toast waits for a message of a tone (won, lost, plain) and returns its text.
func (p *tab) toast(tone string) string {
	p.t.Helper()
	at := fmt.Sprintf(`$$('toast', '[data-tone=%s]').at(-1)`, tone)
	p.until(at)
	return eval[string](p, at+`.innerText`)
}

// dismissToasts clears the messages, so that the next one is news.
func (p *tab) dismissToasts() {
	p.t.Helper()
	p.until(`($$('toast').forEach((toast) => toast.querySelector('button').click()), !$('toast'))`)
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
