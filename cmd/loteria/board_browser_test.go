package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"golang.org/x/sync/errgroup"

	"loteria/agency"
	"loteria/codec"
	"loteria/engine/admin/board"
	"loteria/engine/admin/board/boardtest"
)

// The draw of TestBoardInABrowser: each agency uploads halfBets of its bets, and later the others.
const (
	halfBets = 10
	allBets  = 20
	// groups of agencies are told apart by their ids.
	groups = 5
	// shownRows is how many of the missing agencies the page lists.
	shownRows = 10
)

// seenCode makes a function that gives what the page shows, as JSON of a seenBoard. Numbers are
// without the separators of the language.
const seenCode = `window.seen = () => {
	const all = (selector) => [...document.querySelectorAll(selector)];
	const digits = (e) => e.textContent.replace(/[^0-9–]/g, '');
	return JSON.stringify({
		phase: document.querySelector('#phases [aria-current]').dataset.phase,
		bets: digits(document.getElementById('bets')), reported: digits(document.getElementById('reported')),
		of: digits(document.getElementById('of')), winners: digits(document.getElementById('winners')),
		counts: all('#legend b').map(digits),
		cells: all('#cells .mark').map((e) => e.dataset.state).join(''),
		missing: all('#missing tr').map((row) => [digits(row.children[0]), row.querySelector('.mark').dataset.state, digits(row.children[2])].join(' ')),
		more: [digits(document.getElementById('missing-count')), digits(document.getElementById('missing-note'))],
		link: document.getElementById('link').dataset.link,
	});
}`

// seenBoard is what a page shows of a draw.
type seenBoard struct {
	Phase    board.Phase `json:"phase"`
	Bets     string      `json:"bets"`
	Reported string      `json:"reported"`
	Of       string      `json:"of"`
	Winners  string      `json:"winners"`
	Counts   []string    `json:"counts"`
	Cells    string      `json:"cells"`
	Missing  []string    `json:"missing"`
	More     []string    `json:"more"` // how many are missing, and how many of them are not listed
	Link     string      `json:"link"`
}

// browsedDraw is a draw of a server that is a process, whose agencies stand still after each step,
// and a browser that watches it.
type browsedDraw struct {
	*testing.T
	server  *process
	dir     string
	clients []*agency.Client // by id, from 1
	states  []byte           // of the agencies, by id from 1: what their cells have to show
	bets    []int            // stored
	page    *boardtest.Tab
}

// rows are the first bets of an agency. One bet wins of each agency with an odd id.
func rows(id, count int) string {
	var b strings.Builder
	for row := range count {
		number := 1
		if id%2 == 1 && row == id%allBets {
			number = 7574
		}
		fmt.Fprintf(&b, "Ana,Paz,%d,1990-05-23,%d\r\n", 1000+row, number)
	}
	return b.String()
}

// each calls do for the agencies of some groups at once, and returns when all calls have returned.
func (d *browsedDraw) each(do func(id int, c *agency.Client) error, in ...int) {
	d.Helper()
	var calls errgroup.Group
	for id, c := range d.clients {
		if c != nil && slices.Contains(in, id%groups) {
			calls.Go(func() error { return do(id, c) })
		}
	}
	if err := calls.Wait(); err != nil {
		d.Fatalf("%v\n%s", err, d.server.stdout)
	}
}

// upload uploads the first bets of the agencies of some groups.
func (d *browsedDraw) upload(count int, in ...int) {
	d.Helper()
	d.each(func(id int, c *agency.Client) error {
		_, err := c.Upload(d.Context(), "bets", strings.NewReader(rows(id, count)))
		d.bets[id] = count
		return err
	}, in...)
	d.become(board.CellUploading, in...)
}

// become notes how far the agencies of some groups are.
func (d *browsedDraw) become(state byte, in ...int) {
	for id := range d.states {
		if slices.Contains(in, id%groups) {
			d.states[id] = state
		}
	}
}

// want is what a page has to show.
func (d *browsedDraw) want(phase board.Phase, link string) seenBoard {
	n := len(d.states) - 1
	cells := string(d.states[1:])
	count := func(state byte) int { return strings.Count(cells, string(state)) }
	w := seenBoard{Phase: phase, Of: strconv.Itoa(n), Winners: "–", Cells: cells, Missing: []string{}, Link: link, More: []string{"", ""}}
	done := []byte{board.CellReported, board.CellServed}
	if phase != board.Intake {
		w.Winners = strconv.Itoa((n + 1) / 2)
		done = done[1:]
	}
	missing, bets := 0, 0
	for id := 1; id <= n; id++ {
		bets += d.bets[id]
		if slices.Contains(done, d.states[id]) {
			continue
		}
		if missing++; missing <= shownRows {
			w.Missing = append(w.Missing, fmt.Sprintf("%d %c %d", id, d.states[id], d.bets[id]))
		}
	}
	if missing > 0 {
		w.More[0] = strconv.Itoa(missing)
	}
	if missing > shownRows {
		w.More[1] = strconv.Itoa(missing - shownRows)
	}
	w.Bets = strconv.Itoa(bets)
	w.Reported = strconv.Itoa(count(board.CellReported) + count(board.CellServed))
	for _, state := range []byte{board.CellWaiting, board.CellUploading, board.CellReported, board.CellServed} {
		w.Counts = append(w.Counts, strconv.Itoa(count(state)))
	}
	return w
}

// shows waits until the page shows what it has to, and inspects it in some looks.
func (d *browsedDraw) shows(name string, phase board.Phase, link string, looks ...boardtest.Look) {
	d.Helper()
	want, err := json.Marshal(d.want(phase, link))
	if err != nil {
		d.Fatal(err)
	}
	d.page.Until(fmt.Sprintf(`window.wanted = %q, seen() === wanted`, want))
	for _, look := range looks {
		d.page.Inspect(fmt.Sprintf("real-%s-%d", name, len(d.states)-1), look)
		if got := boardtest.Value[string](d.page, `seen()`); got != string(want) {
			d.Errorf("%s, %v: it shows %s, want %s", name, look, got, want)
		}
	}
}

var (
	serverAt = regexp.MustCompile(`action: accept_connections \| result: in_progress \| addr: (\S+)`)
	tableAt  = regexp.MustCompile(`action: tablero \| result: success \| url: (\S+)`)
)

// startBrowsedDraw starts a server, the agencies and the browser. No agency has said anything but who
// it is.
func startBrowsedDraw(t *testing.T, browser boardtest.Browser, n int) *browsedDraw {
	t.Helper()
	d := &browsedDraw{T: t, dir: t.TempDir(), clients: make([]*agency.Client, n+1), states: bytes.Repeat([]byte{board.CellWaiting}, n+1),
		bets: make([]int, n+1)}
	var err error
	d.server, err = startLoteria(d.dir, "server", "SERVER_ADDR=127.0.0.1:0", "SERVER_HTTP_ADDR=127.0.0.1:0",
		fmt.Sprintf("SERVER_AGENCIES=%d", n), "SERVER_DATA_DIR=data", "SERVER_EXIT_GRACE=1h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.server.kill)
	url := said(t, d.server, tableAt)[0][1]
	addr := said(t, d.server, serverAt)[0][1]
	d.page = browser.Open(t, url+"?lang=en")
	d.page.Run(seenCode)
	var dials errgroup.Group
	for id := 1; id <= n; id++ {
		dials.Go(func() (err error) {
			d.clients[id], err = agency.Dial(t.Context(), addr, codec.Agency(id))
			return err
		})
	}
	if err := dials.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range d.clients[1:] {
			_ = c.Close() // it may be closed
		}
	})
	return d
}

// People see in a browser what really happens in a draw, at each step, and what is left of it is what
// `loteria export` has.
func TestBoardInABrowser(t *testing.T) {
	browser := boardtest.Start(t)
	looks := boardtest.Looks()
	for _, n := range []int{5, 1000} {
		t.Run(fmt.Sprintf("%d agencies", n), func(t *testing.T) {
			d := startBrowsedDraw(t, browser, n)
			p := d.page
			// A few agencies are seen in two opposite looks at each step, many in one. At the end all looks
			// were seen.
			step := 0
			see := func(name string, phase board.Phase, link string) {
				t.Helper()
				now := []boardtest.Look{looks[step%len(looks)], looks[len(looks)-1-step%len(looks)]}
				if n > groups {
					now = now[:1]
				}
				d.shows(name, phase, link, now...)
				step++
			}
			see("waiting", board.Intake, "live")
			d.upload(halfBets, 2, 3)
			see("uploading", board.Intake, "live")
			d.upload(halfBets, 1)

			// With the keyboard a reader finds each agency, and stays there while it goes on.
			p.Speak("en")
			if order := p.TabOrder(); !slices.Equal(order, []string{"es", "en", "cells"}) {
				t.Errorf("Tab goes to %q", order)
			}
			reads := func(says string) {
				t.Helper()
				p.Until(fmt.Sprintf(`document.activeElement.getAttribute('aria-valuetext') === %q`, says))
			}
			p.Press(kb.ArrowRight, kb.ArrowRight)
			reads("Agency 3: Uploading")

			drawn := make(chan error, n)
			report := func(in ...int) {
				t.Helper()
				d.upload(allBets, in...)
				d.become(board.CellReported, in...)
				for id, c := range d.clients {
					if c != nil && slices.Contains(in, id%groups) {
						go func() {
							winners, err := c.Winners(t.Context())
							if want := id % 2; err == nil && winners.Count() != want {
								err = fmt.Errorf("agency %d: %d winners, want %d", id, winners.Count(), want)
							}
							drawn <- err
						}()
					}
				}
			}
			report(3)
			reads("Agency 3: Reported")
			see("reporting", board.Intake, "live")
			p.Press(kb.Home)
			p.BackTab()
			p.BackTab()
			p.Press(kb.Enter)
			p.UntilText("missing-title", "Aún sin terminar")
			p.Press(kb.Tab, " ")
			p.UntilText("missing-title", "Not reported yet")

			report(1, 2, 4)
			see("almost", board.Intake, "live")
			report(0)
			for range n {
				if err := <-drawn; err != nil {
					t.Fatal(err)
				}
			}
			see("drawn", board.Drawn, "live")
			confirm := func(_ int, c *agency.Client) error { return c.Confirm(t.Context()) }
			d.each(confirm, 1, 2)
			d.become(board.CellServed, 1, 2)
			see("serving", board.Drawn, "live")
			d.each(confirm, 0, 3, 4)
			d.become(board.CellServed, 0, 3, 4)
			see("served", board.Drawn, "live")
			d.each(func(_ int, c *agency.Client) error { return c.Close() }, 0, 1, 2, 3, 4)
			if code, err := d.server.wait(); code != exitDone || err != nil {
				t.Fatalf("exit code %d, %v; it said:\n%s", code, err, d.server.stdout)
			}

			// The page stays, without a server.
			see("over", board.Over, "ended")
			p.Speak("en")
			p.Want(map[string]string{"link": "The draw is over", "missing-note": "All agencies have their winners."})
			// A thousand reports don't hide what matters.
			if events := boardtest.Value[string](p, `[...document.querySelectorAll('#events li')].map((e) => e.className).join(' ')`); !strings.HasPrefix(events, "over-event served-event ") ||
				!strings.Contains(events, "draw-event") || !strings.HasSuffix(events, "started-event") {
				t.Errorf("the events are %s", events)
			}
			if step != len(looks) {
				t.Errorf("%d of %d looks were seen", step, len(looks))
			}
			p.Clean()
			d.likeExport(boardtest.Value[string](p, `seen()`))
		})
	}
}

// likeExport compares the numbers that the page has shown at last with the export's, agency by agency.
func (d *browsedDraw) likeExport(last string) {
	d.Helper()
	var shown seenBoard
	if err := json.Unmarshal([]byte(last), &shown); err != nil {
		d.Fatal(err)
	}
	count := func(command string) (total string, perAgency map[string]int) {
		p, err := startLoteria(d.dir, command, "SERVER_DATA_DIR=data")
		if err != nil {
			d.Fatal(err)
		}
		if code, err := p.wait(); code != exitDone || err != nil {
			d.Fatalf("%s: exit code %d, %v: %s", command, code, err, p.stderr)
		}
		perAgency = map[string]int{}
		n := 0
		for line := range strings.Lines(p.stdout.String()) {
			id, _, _ := strings.Cut(line, ",")
			perAgency[id]++
			n++
		}
		return strconv.Itoa(n), perAgency
	}
	bets, of := count("export")
	winners, _ := count("export --winners")
	if shown.Bets != bets || shown.Winners != winners || shown.Of != strconv.Itoa(len(of)) {
		d.Errorf("the page shows %s bets, %s winners, %s agencies, and the export has %s, %s, %d",
			shown.Bets, shown.Winners, shown.Of, bets, winners, len(of))
	}
	for id, n := range of {
		if n != allBets {
			d.Errorf("the export has %d bets of agency %s, want %d", n, id, allBets)
		}
	}
}
