// Package boardtest looks at the board in a real browser, in tests of the page and of whole draws.
package boardtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	// browserEnv asks for the tests in a browser. CI sets it.
	browserEnv = "LOTERIA_BROWSER"
	// shotsEnv names a directory for pictures of what the tests have looked at.
	shotsEnv = "LOTERIA_SHOTS"
	// axeFile is where .ci/run puts axe-core, in the user's cache directory.
	axeFile = "loteria-ci/axe-core-4.14.1/axe.min.js"
	// Patience is for a machine under load. Nothing waits for as long if it works.
	Patience = time.Minute
)

// Browser is a running browser.
type Browser struct {
	ctx context.Context // in which tabs are opened
	axe string          // the code of axe-core
}

// Start starts a browser for a test. It skips the test unless LOTERIA_BROWSER is set: then Chromium and
// axe-core have to be there.
func Start(t *testing.T) Browser {
	t.Helper()
	if os.Getenv(browserEnv) == "" {
		t.Skipf("NOT TESTED: the page in a real browser, which takes half a minute: set %s=1", browserEnv)
	}
	var path string
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("the page in a real browser needs Chromium: apt-get install chromium-headless-shell")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	axe, err := os.ReadFile(filepath.Join(cache, axeFile))
	if err != nil {
		t.Fatal("the page in a real browser needs axe-core, which .ci/run installs: ", err)
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
	return Browser{ctx, string(axe)}
}

// Tab is a tab of a browser. Only the test's goroutine may call its methods. Those that can't do what
// they are told end the test.
type Tab struct {
	*testing.T
	ctx context.Context

	mutex  sync.Mutex
	faults []string // errors that the page has made
}

// Open opens a page in a new tab, 1280 pixels wide, light, and without motion.
func (b Browser) Open(t *testing.T, url string) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	p := &Tab{T: t, ctx: ctx}
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
	p.Emulate(Look{Width: 1280, Scheme: "light"}, "reduce")
	p.do(chromedp.Navigate(url))
	p.do(chromedp.Evaluate[chromedp.Void](b.axe))
	return p
}

func (p *Tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// Value is what an expression gives, which may be a promise.
func Value[T any](p *Tab, expression string) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%.200s: %v", expression, err)
	}
	return v
}

// Run runs code.
func (p *Tab) Run(code string) {
	p.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](code))
}

// Until waits for an expression to be true.
func (p *Tab) Until(expression string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression)); err != nil {
		p.Fatalf("%s never held: %v\n%s", expression, err, Value[string](p, `document.body.innerText`))
	}
}

// UntilText waits for the element with an id to say a text.
func (p *Tab) UntilText(id, text string) {
	p.Helper()
	p.Until(fmt.Sprintf(`document.getElementById(%q).textContent === %q`, id, text))
}

// Text is what the element with an id says.
func (p *Tab) Text(id string) string {
	p.Helper()
	return Value[string](p, fmt.Sprintf(`document.getElementById(%q).textContent`, id))
}

// Want checks the texts of elements, by their ids.
func (p *Tab) Want(texts map[string]string) {
	p.Helper()
	for id, want := range texts {
		if got := p.Text(id); got != want {
			p.Errorf("#%s says %q, want %q", id, got, want)
		}
	}
}

// Clean checks that the page has made no error until now.
func (p *Tab) Clean() {
	p.Helper()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, fault := range p.faults {
		p.Errorf("the browser's console: %s", fault)
	}
}

// Look is how a reader sees the page.
type Look struct {
	Lang   string // "en" or "es"
	Width  int64  // pixels
	Scheme string // "light" or "dark"
}

// String names a look, as part of a file's name.
func (l Look) String() string { return fmt.Sprintf("%s-%d-%s", l.Lang, l.Width, l.Scheme) }

// Looks are all in which the page is tested: two languages, a telephone's width and a desktop's, light
// and dark.
func Looks() []Look {
	var all []Look
	for _, lang := range []string{"en", "es"} {
		for _, width := range []int64{360, 1280} {
			for _, scheme := range []string{"light", "dark"} {
				all = append(all, Look{lang, width, scheme})
			}
		}
	}
	return all
}

// Emulate gives the page a width, colours, and prefers-reduced-motion, which is "reduce" or
// "no-preference". The language stays.
func (p *Tab) Emulate(look Look, motion string) {
	p.Helper()
	p.do(chromedp.EmulateViewport(look.Width, 800))
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: look.Scheme}, {Name: "prefers-reduced-motion", Value: motion},
		},
	}); err != nil {
		p.Fatal(err)
	}
}

// Speak chooses a language with the page's button.
func (p *Tab) Speak(lang string) {
	p.Helper()
	p.Run(fmt.Sprintf(`document.querySelector('.languages [value=%s]').click()`, lang))
}

// tooWide gives what is wider than its place.
const tooWide = `[...document.querySelectorAll('main *')].filter((e) => e.clientWidth > 0 && e.id !== 'live' &&
	e.scrollWidth > e.clientWidth + 1 && !e.closest('svg')).map((e) => e.outerHTML.slice(0, 150))`

// axeRun gives what axe-core finds.
const axeRun = `axe.run(document, {resultTypes: ['violations']}).then((r) =>
	r.violations.map((v) => v.id + ': ' + v.help + ' ' + v.nodes.map((n) => n.html.slice(0, 120) + ' ' + n.failureSummary).join(' | ')))`

// Inspect shows the page in a look, and checks that everything fits and that axe-core finds nothing.
// The picture has the name.
func (p *Tab) Inspect(name string, look Look) {
	p.Helper()
	name += "-" + look.String()
	p.Speak(look.Lang)
	p.Emulate(look, "reduce")
	if wide := Value[int64](p, `document.documentElement.scrollWidth`); wide > look.Width {
		p.Errorf("%s: the page is %d pixels wide", name, wide)
	}
	for _, cut := range Value[[]string](p, tooWide) {
		p.Errorf("%s: it doesn't fit: %s", name, cut)
	}
	for _, found := range Value[[]string](p, axeRun) {
		p.Errorf("%s: axe: %s", name, found)
	}
	p.Shot(name)
}

// Shot saves a picture for whoever looks at it, if LOTERIA_SHOTS names a directory.
func (p *Tab) Shot(name string) {
	p.Helper()
	dir := os.Getenv(shotsEnv)
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

// Press presses keys, one after the other. Their names are in package kb.
func (p *Tab) Press(keys ...string) {
	p.Helper()
	for _, key := range keys {
		p.do(chromedp.KeyEvent(key))
	}
}

// BackTab moves the focus to what is before it.
func (p *Tab) BackTab() {
	p.Helper()
	p.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(kb.ModifierShift)))
}

const (
	// operable gives how many elements a reader can operate.
	operable = `[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex], [onclick]')].
		filter((e) => e.checkVisibility() && !e.disabled).length`
	// focused names what has the focus, and says if nobody sees that.
	focused = `((e) => e === document.body ? '' : (e.value || e.id || e.outerHTML.slice(0, 100)) +
		(e.matches(':focus-visible') && getComputedStyle(e).outlineStyle !== 'none' ? '' : ' (not to be seen)'))(document.activeElement)`
)

// TabOrder presses Tab from the page's beginning to its end, and returns the values or ids of what had
// the focus. It checks that everything that can be operated had it.
func (p *Tab) TabOrder() []string {
	p.Helper()
	p.Run(`document.activeElement.blur()`)
	want := Value[int](p, operable)
	var order []string
	for range want {
		p.Press(kb.Tab)
		order = append(order, Value[string](p, focused))
	}
	return order
}
