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

// success is the first attribute of lines that report no failure.
var success = slog.String("result", "success")

// logLine is a line that a client logged.
type logLine struct {
	at     time.Time
	level  slog.Level
	action string
	attrs  []slog.Attr
}

func (l logLine) String() string { return fmt.Sprint(l.level, " ", l.action, " ", l.attrs) }

// equal reports whether two lines are equal but for their time.
func (l logLine) equal(other logLine) bool {
	return l.level == other.level && l.action == other.action &&
		slices.EqualFunc(l.attrs, other.attrs, slog.Attr.Equal)
}

// has reports whether the line has the attribute.
func (l logLine) has(a slog.Attr) bool { return slices.ContainsFunc(l.attrs, a.Equal) }

// value returns the value of the attribute with the key; the zero Value if there is none.
func (l logLine) value(key string) slog.Value {
	for _, a := range l.attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return slog.Value{}
}

// logBook is a handler that keeps the lines and their contexts.
type logBook struct {
	level  slog.Level
	warned chan struct{} // gets one element for each line at WARN

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
	panic("a client adds no attributes to its logger")
}

func (b *logBook) WithGroup(string) slog.Handler {
	panic("a client opens no group")
}

func (b *logBook) all() []logLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

// about returns the lines with the action and the attribute.
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

// Each line is logged with the context of its call, so handlers that trace requests can use it.
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
