package board_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"loteria/engine/admin/board"
)

// axeRun gives what axe-core finds, a line each.
const axeRun = `axe.run(document, {resultTypes: ['violations']}).then((r) =>
	r.violations.map((v) => v.id + ': ' + v.help + ' ' + v.nodes.map((n) => n.html.slice(0, 120) + ' ' + n.failureSummary).join(' | ')))`

// tooWide gives what is wider than its place.
const tooWide = `[...document.querySelectorAll('main *')].filter((e) => e.clientWidth > 0 && e.id !== 'live' &&
	e.scrollWidth > e.clientWidth + 1 && !e.closest('svg')).map((e) => e.outerHTML.slice(0, 150))`

// grouped writes a number as readers of the language do.
func grouped(n int64, lang string) string {
	s, separator := fmt.Sprint(n), map[string]string{"en": ",", "es": "."}[lang]
	if lang == "es" && len(s) == 4 {
		return s
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + separator + s[i:]
	}
	return s
}

func TestPageInABrowser(t *testing.T) {
	ctx, axe := browser(t)

	for _, lang := range []string{"en", "es"} {
		for _, n := range []int{5, 1000} {
			t.Run(fmt.Sprintf("%s %d agencies", lang, n), func(t *testing.T) {
				from := newSource(t)
				from.send("state", intake(n))
				p := open(ctx, t, from.URL+"/board/?lang="+lang)
				p.do(chromedp.Evaluate[chromedp.Void](axe))
				for _, phase := range []struct {
					name  string
					state *board.State
				}{
					{"intake", intake(n)}, {"leaderless", leaderless(n)}, {"led", led(n)}, {"drawn", drawn(n)}, {"over", over(n)},
				} {
					s := phase.state
					event := "state"
					if s.Phase == board.Over {
						event = "bye"
					}
					from.send(event, s)
					p.until(fmt.Sprintf("document.getElementById('bets').textContent === %q", grouped(s.Bets, lang)))
					p.want(map[string]string{
						"reported": grouped(int64(s.Reported+s.Served), lang),
						"of":       map[string]string{"en": "of ", "es": "de "}[lang] + grouped(int64(n), lang),
						"winners":  map[bool]string{true: grouped(int64(s.Winners), lang), false: "–"}[s.Winners > 0],
					})
					for i, want := range []int{s.Waiting, s.Uploading, s.Reported, s.Served} {
						if got := value[string](p, fmt.Sprintf(`document.querySelectorAll('#legend b')[%d].textContent`, i)); got != grouped(int64(want), lang) {
							t.Errorf("%s: the legend's number %d is %s, want %d", phase.name, i, got, want)
						}
					}
					if got := value[string](p, `[...document.querySelectorAll('#cells .mark')].map((m) => m.dataset.state).join('')`); got != s.Cells {
						t.Errorf("%s: the cells are %.40s, want %.40s", phase.name, got, s.Cells)
					}
					for _, width := range []int64{360, 1280} {
						for _, scheme := range []string{"light", "dark"} {
							name := fmt.Sprintf("%s-%s-%d-%d-%s", phase.name, lang, n, width, scheme)
							p.emulate(width, scheme, "reduce")
							if wide := value[int64](p, `document.documentElement.scrollWidth`); wide > width {
								t.Errorf("%s: the page is %d pixels wide", name, wide)
							}
							for _, cut := range value[[]string](p, tooWide) {
								t.Errorf("%s: it doesn't fit: %s", name, cut)
							}
							// axe is slow. Many agencies add nothing but marks, the language only words, and most
							// phases nothing new in the other colours.
							crossed := (width == 1280) != (scheme == "dark")
							if n > 5 && (phase.name != "intake" || lang == "es") || crossed && (lang == "es" || phase.name == "led" || phase.name == "over") {
								p.shot(name)
								continue
							}
							for _, found := range value[[]string](p, axeRun) {
								t.Errorf("%s: axe: %s", name, found)
							}
							p.shot(name)
						}
					}
				}
				p.clean()
			})
		}
	}

	t.Run("keyboard", func(t *testing.T) {
		from := newSource(t)
		from.send("state", intake(1000))
		p := open(ctx, t, from.URL+"/board/?lang=en")
		p.until(`document.querySelectorAll('#cells .mark').length === 1000`)
		for _, want := range []string{"es", "en", "cells"} {
			p.do(chromedp.KeyEvent(kb.Tab))
			if got := value[string](p, `document.activeElement.value || document.activeElement.id`); got != want {
				t.Errorf("the focus is on %q, want %q", got, want)
			}
		}
		p.want(map[string]string{"readout": "Agency 1: Uploading"})
		p.do(chromedp.KeyEvent(kb.ArrowRight))
		p.want(map[string]string{"readout": "Agency 2: Waiting"})
		p.do(chromedp.KeyEvent(kb.End))
		p.want(map[string]string{"readout": "Agency 1,000: Reported"})
		if got := value[string](p, `document.getElementById('cells').getAttribute('aria-valuetext')`); got != "Agency 1,000: Reported" {
			t.Errorf("the cells say %q", got)
		}
		p.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowUp))
		if got := p.text("readout"); got == "Agency 1,000: Reported" || got == "" {
			t.Errorf("a row up is %q", got)
		}
		p.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(kb.ModifierShift)),
			chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(kb.ModifierShift)), chromedp.KeyEvent(kb.Enter))
		p.want(map[string]string{"missing-title": "Aún sin terminar", "bets": "9.500.000"})
		if got := value[string](p, `document.documentElement.lang`); got != "es" {
			t.Errorf("the page's language is %q", got)
		}
		p.clean()
	})

	t.Run("connection", func(t *testing.T) {
		from := newSource(t)
		from.send("state", intake(5))
		p := open(ctx, t, from.URL+"/board/?lang=en")
		p.until(`document.getElementById('link').textContent === 'Live'`)
		from.cut(true)
		p.until(`document.getElementById('link').dataset.link === 'lost'`)
		p.want(map[string]string{"bets": "47,500",
			"alarm": "The connection to the server is lost. This is how it was at 14:03:22.600."})
		p.shot("lost")
		from.cut(false)
		p.until(`document.getElementById('link').textContent === 'Live'`)
		p.want(map[string]string{"live": "Connected again.", "alarm": ""})

		// Who watches sees the draw over the whole screen, for a moment.
		p.emulate(1280, "light", "no-preference")
		from.send("state", drawn(5))
		p.until(`!document.getElementById('moment').hidden`)
		p.shot("moment")
		p.want(map[string]string{"live": "The draw has taken place. Winning bets: 10. 5 of 5 agencies have reported."})
		p.until(`document.getElementById('moment').hidden`)

		// After the end the page stays as it is.
		from.send("bye", over(5))
		p.until(`document.getElementById('link').textContent === 'The draw is over'`)
		for deadline := time.Now().Add(patience); from.open() > 0 && time.Now().Before(deadline); {
			value[int](p, `new Promise((done) => setTimeout(done, 20, 0))`)
		}
		p.want(map[string]string{"bets": "78,698", "winners": "10", "missing-note": "All agencies have their winners."})
		if n := from.open(); n != 0 {
			t.Errorf("%d streams are open after the end", n)
		}
	})

	t.Run("2,000 cells", func(t *testing.T) {
		from := newSource(t)
		s := intake(board.CellsMax)
		from.send("state", s)
		p := open(ctx, t, from.URL+"/board/?lang=en")
		p.until(`document.querySelectorAll('#cells .mark').length === 2000`)
		p.do(chromedp.Evaluate[chromedp.Void](`window.changed = 0; new MutationObserver((m) => { window.changed += m.length })
			.observe(document.getElementById('cells'), {subtree: true, childList: true, attributes: true, attributeFilter: ['data-state']})`))
		cells := []byte(s.Cells)
		cells[0], cells[1999] = board.CellReported, board.CellServed
		s = intake(board.CellsMax)
		s.Cells = string(cells)
		s.Bets++
		from.send("state", s)
		p.until(`document.getElementById('bets').textContent === '19,000,001'`)
		p.emulate(1920, "light", "reduce")
		p.shot("projector")
		if n := value[int](p, `window.changed`); n != 2 {
			t.Errorf("2 cells differ, and %d were changed", n)
		}
		p.clean()
	})

	t.Run("from disk", func(t *testing.T) {
		for _, s := range []*board.State{over(5), over(1000), short(), {Phase: board.Over, Outcome: "</script><b>disk full"}} {
			path := filepath.Join(t.TempDir(), "board.html")
			var page bytes.Buffer
			if err := board.Write(&page, s); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, page.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			p := open(ctx, t, "file://"+path+"?lang=en")
			p.until(`document.getElementById('link').dataset.link === 'saved'`)
			p.want(map[string]string{"bets": grouped(s.Bets, "en"), "reported": grouped(int64(s.Served), "en")})
			if s.Outcome != "" && !strings.HasPrefix(p.text("draw-text"), "The server failed: "+s.Outcome+".") {
				t.Errorf("the outcome is %q", p.text("draw-text"))
			}
			if len(s.Series.Bets) > 0 && value[float64](p, `document.querySelector("#chart .edge").getBBox().width`) < 100 {
				t.Error("the chart is empty")
			}
			if s.Agencies <= 5 {
				p.do(chromedp.Evaluate[chromedp.Void](axe))
				for _, found := range value[[]string](p, axeRun) {
					t.Errorf("axe: %s", found)
				}
			}
			p.shot(fmt.Sprintf("disk-%d", s.Bets))
			p.clean()
		}
	})
}

// short is a draw of 50 ms.
func short() *board.State {
	s := over(5)
	s.Bets = 78697
	s.Series = board.Series{Start: at, Step: 10, Bets: []int64{0, 9000, 21000, 20500, 19000, 9197}}
	when := at.Add(61e6)
	s.DrawnAt = &when
	return s
}

func TestFiles(t *testing.T) {
	handler := board.Handler()
	ask := func(method, path, tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	for path, kind := range map[string]string{
		"/board/": "text/html; charset=utf-8", "/board/board.css": "text/css; charset=utf-8", "/board/board.js": "text/javascript; charset=utf-8",
	} {
		w := ask(http.MethodGet, path, "")
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %s, %d bytes", path, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
		if w := ask(http.MethodGet, path, w.Header().Get("ETag")); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
			t.Errorf("%s with its tag: %d, %d bytes", path, w.Code, w.Body.Len())
		}
		if w := ask(http.MethodHead, path, ""); w.Code != http.StatusOK || w.Body.Len() != 0 {
			t.Errorf("HEAD %s: %d, %d bytes", path, w.Code, w.Body.Len())
		}
		if w := ask(http.MethodPost, path, ""); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/board/state.go", "/board/page.html", "/board/x", "/", "/board/%2e%2e/board.css"} {
		if w := ask(http.MethodGet, path, ""); w.Code == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

func TestWrite(t *testing.T) {
	s := over(5)
	s.Outcome = "</script><script>alert(1)</script><!-- \u2028"
	var page bytes.Buffer
	if err := board.Write(&page, s); err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`(?i)(src|href)="[^d][^"]*"`).FindAllString(page.String(), -1); found != nil {
		t.Errorf("the page needs other files: %q", found)
	}
	if n := strings.Count(page.String(), "</script>"); n != 2 {
		t.Errorf("%d scripts end, want 2", n)
	}
	_, rest, _ := strings.Cut(page.String(), `<script type="application/json" id="state">`)
	text, _, _ := strings.Cut(rest, "</script>")
	var got board.State
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Outcome != s.Outcome || got.Bets != s.Bets {
		t.Errorf("the state in the page is %+v, %v", got, err)
	}
}
