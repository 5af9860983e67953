package board_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"loteria/engine/admin/board"
	"loteria/engine/admin/board/boardtest"
)

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
	browser := boardtest.Start(t)

	for _, n := range []int{5, 1000} {
		t.Run(fmt.Sprintf("%d agencies", n), func(t *testing.T) {
			t.Parallel()
			from := newSource(t)
			from.send("state", opening(n))
			p := browser.Open(t, from.URL+"/board/?lang=en")
			for _, phase := range []struct {
				name  string
				state *board.State
			}{
				{"opening", opening(n)}, {"intake", intake(n)}, {"leaderless", leaderless(n)}, {"led", led(n)},
				{"drawn", drawn(n)}, {"failed", failed(n)}, {"over", over(n)},
			} {
				s := phase.state
				event := "state"
				if phase.name == "over" {
					event = "bye"
				}
				from.send(event, s)
				for _, look := range boardtest.Looks() {
					p.Speak(look.Lang)
					p.UntilText("bets", grouped(s.Bets, look.Lang))
					p.Want(map[string]string{
						"reported": grouped(int64(s.Reported+s.Served), look.Lang),
						"of":       map[string]string{"en": "of ", "es": "de "}[look.Lang] + grouped(int64(n), look.Lang),
						"winners":  map[bool]string{true: grouped(int64(s.Winners), look.Lang), false: "–"}[s.Winners > 0],
					})
					p.Inspect(fmt.Sprintf("%s-%d", phase.name, n), look)
				}
				p.Until(fmt.Sprintf(`document.getElementById('link').dataset.link === %q`,
					map[bool]string{true: "ended", false: "live"}[s.Phase == board.Over]))
				for i, want := range []int{s.Waiting, s.Uploading, s.Reported, s.Served} {
					if got := boardtest.Value[string](p, fmt.Sprintf(`document.querySelectorAll('#legend b')[%d].textContent`, i)); got != grouped(int64(want), "es") {
						t.Errorf("%s: the legend's number %d is %s, want %d", phase.name, i, got, want)
					}
				}
				if got := boardtest.Value[string](p, `[...document.querySelectorAll('#cells .mark')].map((m) => m.dataset.state).join('')`); got != s.Cells {
					t.Errorf("%s: the cells are %.40s, want %.40s", phase.name, got, s.Cells)
				}
			}
			p.Clean()
		})
	}

	t.Run("keyboard", func(t *testing.T) {
		from := newSource(t)
		from.send("state", intake(1000))
		p := browser.Open(t, from.URL+"/board/?lang=en")
		p.Until(`document.querySelectorAll('#cells .mark').length === 1000`)
		if order := p.TabOrder(); !slices.Equal(order, []string{"es", "en", "cells"}) {
			t.Errorf("Tab goes to %q", order)
		}
		p.Want(map[string]string{"readout": "Agency 1: Uploading"})
		p.Press(kb.ArrowRight)
		p.Want(map[string]string{"readout": "Agency 2: Waiting"})
		p.Press(kb.End)
		p.Want(map[string]string{"readout": "Agency 1,000: Reported"})
		if got := boardtest.Value[string](p, `document.getElementById('cells').getAttribute('aria-valuetext')`); got != "Agency 1,000: Reported" {
			t.Errorf("the cells say %q", got)
		}
		p.Press(kb.ArrowDown, kb.ArrowUp)
		if got := p.Text("readout"); got == "Agency 1,000: Reported" || got == "" {
			t.Errorf("a row up is %q", got)
		}
		p.BackTab()
		p.BackTab()
		p.Press(kb.Enter)
		p.Want(map[string]string{"missing-title": "Aún sin terminar", "bets": "9.500.000"})
		if got := boardtest.Value[string](p, `document.documentElement.lang`); got != "es" {
			t.Errorf("the page's language is %q", got)
		}
		p.Clean()
	})

	t.Run("connection", func(t *testing.T) {
		t.Parallel()
		from := newSource(t)
		from.send("state", intake(5))
		p := browser.Open(t, from.URL+"/board/?lang=en")
		p.UntilText("link", "Live")
		from.cut(true)
		p.Until(`document.getElementById('link').dataset.link === 'lost'`)
		p.Want(map[string]string{"bets": "47,500",
			"alarm": "The connection to the server is lost. This is how it was at 14:03:22.600."})
		for _, look := range boardtest.Looks() {
			p.Inspect("lost", look)
		}
		p.Speak("en")
		from.cut(false)
		p.UntilText("link", "Live")
		p.Want(map[string]string{"live": "Connected again.", "alarm": ""})

		// Who watches sees the draw over the whole screen, for a moment.
		p.Emulate(boardtest.Look{Width: 1280, Scheme: "light"}, "no-preference")
		from.send("state", drawn(5))
		p.Until(`!document.getElementById('moment').hidden`)
		p.Shot("moment")
		p.Want(map[string]string{"live": "The draw has taken place. Winning bets: 10. 5 of 5 agencies have reported."})
		p.Until(`document.getElementById('moment').hidden`)

		// After the end the page stays as it is.
		from.send("bye", over(5))
		p.UntilText("link", "The draw is over")
		for deadline := time.Now().Add(boardtest.Patience); from.open() > 0 && time.Now().Before(deadline); {
			boardtest.Value[int](p, `new Promise((done) => setTimeout(done, 20, 0))`)
		}
		p.Want(map[string]string{"bets": "78,698", "winners": "10", "missing-note": "All agencies have their winners."})
		if n := from.open(); n != 0 {
			t.Errorf("%d streams are open after the end", n)
		}
	})

	t.Run("2,000 cells", func(t *testing.T) {
		from := newSource(t)
		s := intake(board.CellsMax)
		from.send("state", s)
		p := browser.Open(t, from.URL+"/board/?lang=en")
		p.Until(`document.querySelectorAll('#cells .mark').length === 2000`)
		p.Run(`window.changed = 0; new MutationObserver((m) => { window.changed += m.length })
			.observe(document.getElementById('cells'), {subtree: true, childList: true, attributes: true, attributeFilter: ['data-state']})`)
		cells := []byte(s.Cells)
		cells[0], cells[1999] = board.CellReported, board.CellServed
		s = intake(board.CellsMax)
		s.Cells = string(cells)
		s.Bets++
		from.send("state", s)
		p.UntilText("bets", "19,000,001")
		p.Emulate(boardtest.Look{Width: 1920, Scheme: "light"}, "reduce")
		p.Shot("projector")
		if n := boardtest.Value[int](p, `window.changed`); n != 2 {
			t.Errorf("2 cells differ, and %d were changed", n)
		}
		p.Clean()
	})

	t.Run("from disk", func(t *testing.T) {
		t.Parallel()
		for _, s := range []*board.State{over(5), over(1000), short(), past(), {Started: at, Phase: board.Over, Outcome: "</script><b>disk full"}} {
			path := filepath.Join(t.TempDir(), "board.html")
			var page bytes.Buffer
			if err := board.Write(&page, s); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, page.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			p := browser.Open(t, "file://"+path+"?lang=en")
			p.Until(`document.getElementById('link').dataset.link === 'saved'`)
			p.Want(map[string]string{"bets": grouped(s.Bets, "en"), "reported": grouped(int64(s.Served), "en")})
			if s.Outcome != "" && !strings.HasPrefix(p.Text("draw-text"), "The server failed: "+s.Outcome+".") {
				t.Errorf("the outcome is %q", p.Text("draw-text"))
			}
			if len(s.Series.Bets) > 0 && boardtest.Value[float64](p, `document.querySelector("#chart .edge").getBBox().width`) < 100 {
				t.Error("the chart is empty")
			}
			if shown := boardtest.Value[bool](p, `document.getElementById('chart').checkVisibility()`); shown == s.Started.IsZero() {
				t.Errorf("started at %v, chart shown: %v", s.Started, shown)
			}
			for _, look := range boardtest.Looks() {
				if s.Agencies <= 5 {
					p.Inspect(fmt.Sprintf("disk-%d", s.Bets), look)
				}
			}
			p.Clean()
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

// past is what is known of a draw from its ledger.
func past() *board.State {
	s := over(5)
	s.Bets, s.Started, s.DrawnAt, s.Series, s.Events = 78696, time.Time{}, nil, board.Series{Bets: []int64{}}, nil
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
	got, err := board.Read(page.Bytes())
	if err != nil || got.Outcome != s.Outcome || got.Bets != s.Bets || len(got.Series.Bets) != len(s.Series.Bets) {
		t.Errorf("the state in the page is %+v, %v", got, err)
	}
	if _, err := board.Read([]byte("<html></html>")); !errors.Is(err, board.ErrPage) {
		t.Errorf("a page without a state: %v", err)
	}
}
