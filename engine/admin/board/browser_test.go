package board_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"loteria/engine/admin/board"
)

const (
	// browserEnv makes a missing browser or axe-core a failure. CI sets it.
	browserEnv = "LOTERIA_BROWSER"
	// axeFile is where .ci/run puts axe-core, in the user's cache directory.
	axeFile = "loteria-ci/axe-core-4.14.1/axe.min.js"
	// patience is for a machine under load. Nothing waits for as long if it works.
	patience = time.Minute
)

// browser starts a browser and returns the context in which to open tabs, and the code of axe-core.
func browser(t *testing.T) (ctx context.Context, axe string) {
	t.Helper()
	lacks := t.Skip
	if os.Getenv(browserEnv) != "" {
		lacks = t.Fatal
	}
	if testing.Short() {
		t.Skip("takes seconds: it looks at the page in a real browser")
	}
	var path string
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		lacks("NOT TESTED: the page in a real browser needs Chromium: apt-get install chromium-headless-shell")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(filepath.Join(cache, axeFile))
	if err != nil {
		lacks("NOT TESTED: the page in a real browser needs axe-core, which .ci/run installs: ", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("lang", "en-US"))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // root has to
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx, string(code)
}

// tab is a tab of the browser. Its methods fail the test.
type tab struct {
	*testing.T
	ctx context.Context

	mutex  sync.Mutex
	faults []string // errors that the page has made
}

func open(browser context.Context, t *testing.T, url string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	p := &tab{T: t, ctx: ctx}
	err := chromedp.Listen(ctx, func(event any) {
		p.mutex.Lock() // the browser's goroutine calls this
		defer p.mutex.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			p.faults = append(p.faults, fmt.Sprintf("%s %v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				p.faults = append(p.faults, e.Entry.Text+" "+e.Entry.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.emulate(1280, "light", "reduce")
	p.do(chromedp.Navigate(url))
	return p
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// emulate sets the width in pixels, prefers-color-scheme and prefers-reduced-motion.
func (p *tab) emulate(width int64, scheme, motion string) {
	p.Helper()
	p.do(chromedp.EmulateViewport(width, 800))
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion},
		},
	}); err != nil {
		p.Fatal(err)
	}
}

// value is what an expression gives, which may be a promise.
func value[T any](p *tab, expression string) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%.200s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true.
func (p *tab) until(expression string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression)); err != nil {
		p.Fatalf("%s never held: %v\n%s", expression, err, value[string](p, `document.body.innerText`))
	}
}

func (p *tab) text(id string) string {
	p.Helper()
	return value[string](p, fmt.Sprintf(`document.getElementById(%q).textContent`, id))
}

// want checks the text of elements, by their ids.
func (p *tab) want(texts map[string]string) {
	p.Helper()
	for id, want := range texts {
		if got := p.text(id); got != want {
			p.Errorf("#%s says %q, want %q", id, got, want)
		}
	}
}

// clean checks that the page has made no error.
func (p *tab) clean() {
	p.Helper()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, fault := range p.faults {
		p.Errorf("the browser's console: %s", fault)
	}
}

// shot saves a picture for whoever looks at it, if LOTERIA_SHOTS names a directory.
func (p *tab) shot(name string) {
	p.Helper()
	dir := os.Getenv("LOTERIA_SHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		p.Error(err)
	}
}

// source is a server with a board, whose states the test makes up.
type source struct {
	*httptest.Server
	mutex   sync.Mutex
	last    string // the newest event, as it goes over the wire
	streams map[chan string]bool
	refuse  bool // new streams are refused
}

// eventsMax is how many events a stream may be behind in a test.
const eventsMax = 64

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{streams: map[chan string]bool{}}
	mux := http.NewServeMux()
	mux.Handle("/board/", board.Handler())
	mux.HandleFunc("GET /board/events", s.stream)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		s.cut(true)
		s.Close()
	})
	return s
}

func (s *source) stream(w http.ResponseWriter, r *http.Request) {
	events := make(chan string, eventsMax)
	s.mutex.Lock()
	if s.refuse {
		s.mutex.Unlock()
		http.Error(w, "no more streams", http.StatusServiceUnavailable)
		return
	}
	s.streams[events] = true
	events <- s.last
	s.mutex.Unlock()
	defer func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		delete(s.streams, events)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		select {
		case <-r.Context().Done():
			return
		case event, ok := <-events:
			if !ok {
				return
			}
			if _, err := w.Write([]byte(event)); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return
			}
		}
	}
}

// send sends an event to all streams, and to those that come later.
func (s *source) send(event string, state *board.State) {
	data, err := json.Marshal(state)
	if err != nil {
		panic(err) // a State always can
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.last = fmt.Sprintf("event: %s\ndata: %s\n\n", event, data)
	for events := range s.streams {
		events <- s.last
	}
}

// cut ends all streams, and refuses new ones or takes them again.
func (s *source) cut(refuse bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.refuse = refuse
	for events := range s.streams {
		close(events)
		delete(s.streams, events)
	}
}

// open is how many streams there are.
func (s *source) open() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.streams)
}

// at is when the made-up draws take place.
var at = time.Date(2026, 11, 29, 14, 3, 20, 0, time.Local)

// intake is a draw of n agencies of which a part has reported.
func intake(n int) *board.State {
	s := &board.State{
		Time: at.Add(2600 * time.Millisecond), Started: at, Phase: board.Intake,
		Agencies: n, Waiting: n / 5, Uploading: 2 * n / 5, Bets: int64(9500 * n), PerCell: 1,
		Connections: 2 * n, QueueBytes: 3 << 20, QueueLimitBytes: 64 << 20,
		Series: board.Series{Start: at.Add(200 * time.Millisecond), Step: 20},
		Events: []board.Event{{Time: at, Kind: board.EventStarted}},
	}
	s.Reported = n - s.Waiting - s.Uploading
	cells := make([]byte, n)
	for i := range cells {
		id := uint32(i + 1)
		switch i % 5 {
		case 1:
			cells[i] = board.CellWaiting
			s.Missing = append(s.Missing, board.Agency{ID: id, State: "waiting"})
		case 0, 3:
			cells[i] = board.CellUploading
			s.Missing = append(s.Missing, board.Agency{ID: id, State: "uploading", Bets: int64(7000 + 13*i)})
		default:
			cells[i] = board.CellReported
			s.Events = append(s.Events, board.Event{Time: at.Add(time.Duration(900+400*i/max(1, n/5)) * time.Millisecond), Kind: board.EventReported, Agency: id})
		}
	}
	s.Cells = string(cells)
	s.Missing = s.Missing[:min(len(s.Missing), board.MissingMax)]
	s.Events = s.Events[max(0, len(s.Events)-board.EventsMax):]
	const steps = 120
	for i := range steps {
		part := int64(n) * 9500 / steps
		s.Series.Bets = append(s.Series.Bets, part*int64(min(i, 20))/20*int64(85+(i*i*7)%31)/100)
	}
	return s
}

// drawn is the draw after intake, of which a part of the agencies has the winners.
func drawn(n int) *board.State {
	s := intake(n)
	when := at.Add(2700 * time.Millisecond)
	s.Time, s.Phase, s.DrawnAt, s.Winners = at.Add(2900*time.Millisecond), board.Drawn, &when, 2*n
	s.Bets = int64(15739*n + 2)
	for i := range s.Series.Bets {
		s.Series.Bets[i] = s.Series.Bets[i] * 180 / 100 // all of them came in the same time
	}
	s.Waiting, s.Uploading, s.Served = 0, 0, 3*n/5
	s.Reported = n - s.Served
	cells, missing := []byte(s.Cells), s.Missing[:0:0]
	for i := range cells {
		cells[i] = board.CellServed
		if i%5 < 2 {
			cells[i] = board.CellReported
			missing = append(missing, board.Agency{ID: uint32(i + 1), State: "reported", Bets: int64(15000 + 7*i), Winners: 2})
		}
	}
	s.Cells, s.Missing = string(cells), missing[:min(len(missing), board.MissingMax)]
	for i, id := range []uint32{1, 4, 2} {
		s.Events = append(s.Events, board.Event{Time: when.Add(time.Duration(i-2) * 31 * time.Millisecond), Kind: board.EventReported, Agency: id})
	}
	s.Events = append(s.Events, board.Event{Time: when, Kind: board.EventDraw})
	for i, id := range []uint32{3, 5, 4} {
		s.Events = append(s.Events, board.Event{Time: when.Add(time.Duration(i+1) * 23 * time.Millisecond), Kind: board.EventServed, Agency: id})
	}
	s.Events = s.Events[max(0, len(s.Events)-board.EventsMax):]
	return s
}

// over is the end of a draw: every agency has its winners.
func over(n int) *board.State {
	s := drawn(n)
	s.Phase, s.Time, s.Reported, s.Served, s.Missing = board.Over, at.Add(3100*time.Millisecond), 0, n, nil
	s.Cells = strings.Repeat(string(board.CellServed), n)
	s.Bets++
	s.Events = append(s.Events, board.Event{Time: s.Time, Kind: board.EventOver})
	return s
}

// leaderless is a draw of three servers and a learner, whose leader was lost.
func leaderless(n int) *board.State {
	s := intake(n)
	s.Phase = board.Opening
	s.Bets++
	s.Cluster = &board.Cluster{Server: 2, Term: 3, Committed: 41873, Servers: []board.ClusterServer{
		{ID: 1, Addr: "servidor-1.loteria.example:7001", Votes: true},
		{ID: 2, Addr: "servidor-2.loteria.example:7001", Votes: true, Connected: true},
		{ID: 3, Addr: "servidor-3.loteria.example:7001", Votes: true, Connected: true},
		{ID: 4, Addr: "servidor-4.loteria.example:7001", Connected: true},
	}}
	s.Events = append(s.Events, board.Event{Time: at.Add(2100 * time.Millisecond), Kind: board.EventLost})
	return s
}

// led is the same draw after another server took over.
func led(n int) *board.State {
	s := leaderless(n)
	s.Phase = board.Intake
	s.Bets++
	s.Cluster.Leader, s.Cluster.Term = 2, 4
	for i, behind := range []uint64{1204, 0, 0, 37} {
		s.Cluster.Servers[i].Behind = &behind
	}
	s.Events = append(s.Events, board.Event{Time: at.Add(2530 * time.Millisecond), Kind: board.EventLeader, Server: 2, Term: 4})
	return s
}
