package agency

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// success is what lines begin with that are about no failure.
var success = slog.String("result", "success")

// logLine is what a client logged.
type logLine struct {
	at     time.Time
	level  slog.Level
	action string
	attrs  []slog.Attr
}

func (l logLine) String() string { return fmt.Sprint(l.level, " ", l.action, " ", l.attrs) }

// equal reports whether two lines say the same, at whatever time.
func (l logLine) equal(other logLine) bool {
	return l.level == other.level && l.action == other.action &&
		slices.EqualFunc(l.attrs, other.attrs, slog.Attr.Equal)
}

// has reports whether the line has the attribute.
func (l logLine) has(a slog.Attr) bool { return slices.ContainsFunc(l.attrs, a.Equal) }

// value is that of the line's attribute with the key; the zero value if it has none.
func (l logLine) value(key string) slog.Value {
	for _, a := range l.attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return slog.Value{}
}

// logBook is a handler that keeps what is logged, and the contexts that it is logged with.
type logBook struct {
	level  slog.Level
	warned chan struct{} // has one for each line at WARN

	mu       sync.Mutex
	lines    []logLine
	contexts []context.Context
}

func newLogBook(level slog.Level) *logBook {
	return &logBook{level: level, warned: make(chan struct{}, 1000)}
}

func (b *logBook) Enabled(_ context.Context, level slog.Level) bool { return level >= b.level }

func (b *logBook) Handle(ctx context.Context, r slog.Record) error {
	line := logLine{at: r.Time, level: r.Level, action: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		line.attrs = append(line.attrs, a)
		return true
	})
	b.mu.Lock()
	b.lines, b.contexts = append(b.lines, line), append(b.contexts, ctx)
	b.mu.Unlock()
	if r.Level == slog.LevelWarn {
		b.warned <- struct{}{}
	}
	return nil
}

func (b *logBook) WithAttrs([]slog.Attr) slog.Handler {
	panic("whose lines they are is the caller's affair")
}

func (b *logBook) WithGroup(string) slog.Handler {
	panic("a client's lines are flat")
}

func (b *logBook) all() []logLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

// about are the lines with the action and the attribute.
func (b *logBook) about(action string, a slog.Attr) []logLine {
	return slices.DeleteFunc(b.all(), func(l logLine) bool { return l.action != action || !l.has(a) })
}

func TestLog(t *testing.T) {
	input, _ := testInput(25)
	logs := newLogBook(slog.LevelInfo)
	c := mustStart(t, newBank().serve, WithBatchBets(10), WithLogger(slog.New(logs)))
	if _, err := c.Upload(t.Context(), "bets.csv", strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Winners(t.Context()); err != nil {
		t.Fatal(err)
	}
	info := func(action string, attrs ...slog.Attr) logLine {
		return logLine{level: slog.LevelInfo, action: action, attrs: attrs}
	}
	want := []logLine{
		info("apuesta_enviada", success, slog.Int("cantidad", 10)),
		info("apuesta_enviada", success, slog.Int("cantidad", 10)),
		info("apuesta_enviada", success, slog.Int("cantidad", 5)),
		info("consulta_ganadores", success, slog.Int("cant_ganadores", 2)),
	}
	if got := logs.all(); !slices.EqualFunc(got, want, logLine.equal) {
		t.Errorf("logged %v\nwant %v", got, want)
	}
}

// A handler that looks into the context, as those do that follow a request, finds the
// call's in every line.
func TestLogContext(t *testing.T) {
	type call struct{}
	in := func(name string) context.Context { return context.WithValue(t.Context(), call{}, name) }
	input, _ := testInput(5)
	logs := newLogBook(slog.LevelInfo)
	b := newBank()
	c := mustStart(t, inTurn(
		b.upTo("GET_WINNERS|7", func(p *peer) { p.say("ERROR_TIMEOUT") }),
		b.serve,
	), WithLogger(slog.New(logs)))
	if _, err := c.Upload(in("Upload"), "bets.csv", strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Winners(in("Winners")); err != nil {
		t.Fatal(err)
	}
	if err := c.Confirm(in("Confirm")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, line := range logs.all() {
		got = append(got, fmt.Sprint(line.action, " of ", logs.contexts[i].Value(call{})))
	}
	want := []string{
		"apuesta_enviada of Upload",
		"connect of Winners",
		"connect of Winners",
		"consulta_ganadores of Winners",
		"ganadores_confirmados of Confirm",
	}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q\nwant %q", got, want)
	}
}
