//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/veltrix/cairn/internal/lab"
)

// A target is a process that the screen's keys act on.
type target struct {
	*lab.Process
	restart func(context.Context) error
}

// targets are all processes, in the order in which the screen has them.
func targets(f *lab.Fleet) []target {
	var all []target
	for _, n := range f.Redis.Nodes {
		all = append(all, target{n.Process, n.Restart})
	}
	all = append(all, target{f.Ledger.Process, f.Ledger.Restart})
	for _, r := range f.Roles("") {
		all = append(all, target{r.Process, r.Restart})
	}
	return all
}

// A model is the screen. Its methods are called by one goroutine.
type model struct {
	ctx     context.Context
	watcher *watcher
	targets []target
	chosen  int
	width   int
	height  int
	did     string // what the last key did
	text    string // what the screen shows
	began   time.Time
}

// What the screen hears beside keys.
type (
	tickMsg time.Time
	didMsg  string
)

// drawEvery is how often the screen is drawn anew.
const drawEvery = 250 * time.Millisecond

func tick() tea.Cmd { return tea.Tick(drawEvery, func(t time.Time) tea.Msg { return tickMsg(t) }) }

// screen shows a status screen until the user quits or ctx ends.
func screen(ctx context.Context, w *watcher, f *lab.Fleet) error {
	m := model{ctx: ctx, watcher: w, targets: targets(f), began: time.Now(), width: 120, height: 40}
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithoutSignalHandler()).Run()
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		return nil // told to end, not by a key
	}
	return err
}

// Init implements [tea.Model].
func (m model) Init() tea.Cmd { return tick() }

// Update implements [tea.Model].
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tickMsg:
		m.text = m.render()
		return m, tick()
	case didMsg:
		m.did = string(msg)
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		m, cmd := m.key(msg.String())
		m.text = m.render()
		return m, cmd
	}
	return m, nil
}

func (m model) key(key string) (model, tea.Cmd) {
	t := m.targets[m.chosen]
	switch key {
	case "q", "ctrl+c":
		return m, tea.Quit
	case "up":
		m.chosen = (m.chosen + len(m.targets) - 1) % len(m.targets)
	case "down", "tab":
		m.chosen = (m.chosen + 1) % len(m.targets)
	case "k":
		return m, m.act("kill -9", t.Name, t.Kill)
	case "p":
		if t.Paused() {
			return m, m.act("SIGCONT", t.Name, t.Continue)
		}
		return m, m.act("SIGSTOP", t.Name, t.Pause)
	case "r":
		return m, m.act("restart", t.Name, func() error { return t.restart(m.ctx) })
	case "s":
		return m, m.act("stop", t.Name, func() error {
			ctx, cancel := context.WithTimeout(m.ctx, drainWithin/2)
			defer cancel()
			return t.Stop(ctx)
		})
	}
	return m, nil
}

// act does something to a process, and says so when it is done.
func (m model) act(what, name string, f func() error) tea.Cmd {
	return func() tea.Msg {
		at := time.Now()
		if err := f(); err != nil {
			return didMsg(fmt.Sprintf("%s  %s %s: %s", at.Format(time.TimeOnly), what, name, ends(err.Error())))
		}
		return didMsg(fmt.Sprintf("%s  %s %s (%.1f s)", at.Format(time.TimeOnly), what, name, time.Since(at).Seconds()))
	}
}

// ends returns the first and the last line of a text: of an error with a log,
// what went wrong and why.
func ends(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) == 1 {
		return lines[0]
	}
	return lines[0] + "\n" + lines[len(lines)-1]
}

// View implements [tea.Model].
func (m model) View() tea.View {
	v := tea.NewView(m.text)
	v.AltScreen = true
	v.WindowTitle = "cairn cluster"
	return v
}
