package front

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/engine/commit"
	"loteria/engine/lottery"
)

// noiseClock is a noise whose clock the test sets.
type noiseClock struct {
	*noise
	at   time.Time
	logs *observer.ObservedLogs
}

func newNoiseClock(level zapcore.Level) *noiseClock {
	core, logs := observer.New(level)
	c := &noiseClock{at: time.Unix(1_000_000, 0), logs: logs}
	c.noise = newNoise(zap.New(core), func() time.Time { return c.at })
	return c
}

// said returns the lines that were logged since the last call, sorted.
func (c *noiseClock) said() []string {
	var lines []string
	for _, entry := range c.logs.TakeAll() {
		line := entry.Message
		for _, f := range entry.Context {
			m := zapcore.NewMapObjectEncoder()
			f.AddTo(m)
			line += fmt.Sprintf(" %s=%v", f.Key, m.Fields[f.Key])
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func ip(s string) Source { return netip.MustParseAddr(s).As16() }

// When events of a source are logged and when they are suppressed, step by step.
func TestNoise(t *testing.T) {
	one, two := ip("10.0.0.1"), ip("2001:db8::2")
	n := 0
	type noiseStep struct {
		after time.Duration
		do    func(*noiseClock)
		want  []string
	}
	from := func(s Source) func(*noiseClock) {
		return func(c *noiseClock) { n++; c.write(noisyRequest, s, zap.Int("n", n)) }
	}
	tick, flush := (*noiseClock).tick, (*noiseClock).flush
	for _, test := range []struct {
		name  string
		steps []noiseStep
	}{
		{"the first is written at once", []noiseStep{
			{0, from(one), []string{"solicitud result=fail n=1 ip=10.0.0.1"}},
			{noisePeriod, tick, nil},
			{0, flush, nil},
		}},
		{"one after the period is written at once, too", []noiseStep{
			{0, from(one), []string{"solicitud result=fail n=1 ip=10.0.0.1"}},
			{noisePeriod, from(one), []string{"solicitud result=fail n=2 ip=10.0.0.1"}},
		}},
		{"one too soon waits until the period is over", []noiseStep{
			{0, from(one), []string{"solicitud result=fail n=1 ip=10.0.0.1"}},
			{0, from(one), nil},
			{noisePeriod - 1, tick, nil},
			{1, tick, []string{"solicitud result=fail n=2 ip=10.0.0.1"}},
			{0, tick, nil},
			{noisePeriod, tick, nil},
		}},
		{"many too soon become one line and a number", []noiseStep{
			{0, from(one), []string{"solicitud result=fail n=1 ip=10.0.0.1"}},
			{0, from(one), nil},
			{1, from(one), nil},
			{1, from(one), nil},
			{noisePeriod, tick, []string{"solicitud result=fail n=2 ip=10.0.0.1 suprimidas=2"}},
			{noisePeriod - 1, from(one), nil}, // too soon after the tick's line
			{0, tick, nil},
			{1, tick, []string{"solicitud result=fail n=5 ip=10.0.0.1"}},
		}},
		{"the next line carries the number if it comes before the tick", []noiseStep{
			{0, from(one), []string{"solicitud result=fail n=1 ip=10.0.0.1"}},
			{0, from(one), nil},
			{0, from(one), nil},
			{noisePeriod, from(one), []string{"solicitud result=fail n=4 ip=10.0.0.1 suprimidas=2"}},
			{0, tick, nil},
			{noisePeriod, tick, nil},
		}},
		{"sources don't disturb one another", []noiseStep{
			{0, from(one), []string{"solicitud result=fail n=1 ip=10.0.0.1"}},
			{0, from(two), []string{"solicitud result=fail n=2 ip=2001:db8::2"}},
			{0, from(one), nil},
			{0, from(two), nil},
			{noisePeriod, tick, []string{"solicitud result=fail n=3 ip=10.0.0.1", "solicitud result=fail n=4 ip=2001:db8::2"}},
		}},
		{"events don't disturb one another", []noiseStep{
			{0, from(one), []string{"solicitud result=fail n=1 ip=10.0.0.1"}},
			{0, func(c *noiseClock) { c.write(noisyConnection, one) }, []string{"accept_connections result=success ip=10.0.0.1"}},
			{0, func(c *noiseClock) { c.write(noisyRefused, one) }, []string{"accept_connections result=fail ip=10.0.0.1"}},
		}},
		{"what is not logged is not counted", []noiseStep{
			{0, func(c *noiseClock) { c.write(noisyHealthRequest, one); c.write(noisyHealthRequest, one) }, nil},
			{0, flush, nil},
		}},
		{"flush waits for nothing", []noiseStep{
			{0, from(one), []string{"solicitud result=fail n=1 ip=10.0.0.1"}},
			{0, from(one), nil},
			{0, from(one), nil},
			{0, flush, []string{"solicitud result=fail n=2 ip=10.0.0.1 suprimidas=1"}},
			{0, flush, nil},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newNoiseClock(zapcore.InfoLevel)
			n = 0
			for i, s := range test.steps {
				c.at = c.at.Add(s.after)
				s.do(c)
				if got := c.said(); !slices.Equal(got, s.want) {
					t.Errorf("step %d: said %q, want %q", i, got, s.want)
				}
			}
			if left := len(c.recent); left > 0 {
				c.at = c.at.Add(2 * noisePeriod)
				c.tick()
				c.at = c.at.Add(2 * noisePeriod)
				c.tick()
				if left = len(c.recent); left > 0 {
					t.Errorf("%d entries are left when all are quiet", left)
				}
			}
		})
	}
}

// Beyond noiseSourcesMax the sources share a line. They get their own when there is room again.
func TestNoiseManySources(t *testing.T) {
	c := newNoiseClock(zapcore.InfoLevel)
	const more = 1000
	address := func(i int) Source {
		return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).As16()
	}
	for i := range noiseSourcesMax + more {
		c.write(noisyRequest, address(i))
	}
	lines := c.said()
	if others := slices.Index(lines, "solicitud result=fail ip=otros"); len(lines) != noiseSourcesMax+1 || others < 0 {
		t.Errorf("%d lines, the shared one at %d; want %d lines", len(lines), others, noiseSourcesMax+1)
	}
	if len(c.recent) != noiseSourcesMax+1 {
		t.Errorf("%d entries", len(c.recent))
	}
	c.at = c.at.Add(noisePeriod)
	c.tick()
	if got, want := c.said(), []string{fmt.Sprintf("solicitud result=fail ip=otros suprimidas=%d", more-2)}; !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
	c.write(noisyRequest, address(noiseSourcesMax))
	if got, want := c.said(), []string{"solicitud result=fail ip=" + address(noiseSourcesMax).String()}; !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}

// Whatever the order of goroutines, ticks and the clock: lines and suppressed events add up to the
// events, and the lines of a source are noisePeriod apart.
func TestNoiseCountsEverything(t *testing.T) {
	const loops, events, sources = 4, 2000, 3
	core, logs := observer.New(zapcore.InfoLevel)
	var (
		mu sync.Mutex
		at = time.Unix(1_000_000, 0)
	)
	n := newNoise(zap.New(core), func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(noisePeriod / 100)
		return at
	})
	var all sync.WaitGroup
	for loop := range loops {
		all.Go(func() {
			for i := range events {
				n.write(noisyRequest, Source{15: byte(i % sources)}, zap.Int("loop", loop))
				if i%10 == loop {
					n.tick()
				}
			}
		})
	}
	all.Wait()
	n.flush()
	total := 0
	for _, entry := range logs.All() {
		total++
		if suppressed, ok := entry.ContextMap()["suprimidas"].(int64); ok {
			total += int(suppressed)
		}
	}
	if total != loops*events {
		t.Errorf("lines and suppressed events are %d, want %d", total, loops*events)
	}
	mu.Lock()
	seconds := int(at.Sub(time.Unix(1_000_000, 0)) / noisePeriod)
	mu.Unlock()
	if most := sources * (seconds + 2); logs.Len() > most {
		t.Errorf("%d lines in %d s of %d sources, want at most %d", logs.Len(), seconds, sources, most)
	}
}

// A suppressed event costs no memory beyond that of the first one.
func TestNoiseSuppressedAllocatesNothing(t *testing.T) {
	c := newNoiseClock(zapcore.InfoLevel)
	one := ip("10.0.0.1")
	write := func() {
		c.write(noisyRequest, one, zap.Uint32("agencia", 1), zap.String("error", codec.CodeEmptyBatch.String()))
	}
	write()
	write()
	if n := testing.AllocsPerRun(100, write); n > 0 {
		t.Errorf("%v allocations for each event", n)
	}
}

// A line holds any text cut to its limit, as plain ASCII, and with a '¦' for each '|'.
func TestNoiseTexts(t *testing.T) {
	long := strings.Repeat("x", noiseValueBytesMax)
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"birthdate: 1990-02-30 is not a day", "birthdate: 1990-02-30 is not a day"},
		{`"as codec quotes: \x00"`, `"as codec quotes: \x00"`},
		{long, long},
		{long + "y", long + "..."},
		{long[1:] + "é", `"` + long[1:] + `\xc3"...`},
		{"x | action: sorteo | result: success", "x ¦ action: sorteo ¦ result: success"},
		{"as codec shows it: a¦b", "as codec shows it: a¦b"},
		{"|\xff", `"¦\xff"`},
		{"x\n2026-11-23 10:00:00 INFO     action: sorteo", `"x\n2026-11-23 10:00:00 INFO     action: sorteo"`},
		{"\x1b[2J\r\t\x00\x7f", `"\x1b[2J\r\t\x00\x7f"`},
		{"\xff\xfe", `"\xff\xfe"`},
		{"\u2028\u202e\ufeff\u0085", `"\u2028\u202e\ufeff\u0085"`},
		{"Pérez", `"P\u00e9rez"`},
	} {
		c := newNoiseClock(zapcore.InfoLevel)
		c.write(noisyRequest, Source{}, zap.String("error", test.text))
		if got := c.logs.All()[0].ContextMap()["error"]; got != test.want {
			t.Errorf("%q is logged as %q, want %q", test.text, got, test.want)
		}
	}
}

// The longest reason that codec gives for refusing a bet is shown whole.
func TestNoiseShowsWhatIsWrongWithABet(t *testing.T) {
	line := strings.Repeat("A", codec.NameBytesMax) + "|A|1|" + strings.Repeat("\xff", codec.NameBytesMax) + "|1|1"
	_, _, err := codec.ParseBatch([]byte(line), codec.Rules{Today: 20261123}, nil)
	r := commit.Reply{Effect: lottery.Effect{Code: codec.CodeInvalidBatch}, Detail: err.(*codec.Error).Detail()}
	if text := r.Explanation(); plainText(text) != text || !strings.HasSuffix(text, "is not YYYY-MM-DD") {
		t.Errorf("%q is shown as %q", text, plainText(text))
	}
}

func TestSource(t *testing.T) {
	for _, test := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, "127.0.0.1"},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 2}, "127.0.0.1"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1")}, "2001:db8::1"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "fe80::1"},
		{&net.TCPAddr{}, "::"},
		{nil, "::"},
	} {
		if got := sourceOf(test.addr); got.String() != test.want {
			t.Errorf("%v is %v, want %s", test.addr, got, test.want)
		}
	}
}

// Each format of gnet's log is a noisy event. What gnet logs as information is debug to us.
func TestGnetLogger(t *testing.T) {
	c := newNoiseClock(zapcore.InfoLevel)
	log := gnetLogger{c.noise}
	for fd := range 3 {
		log.Infof("Launching gnet on fd=%d", fd)
		log.Warnf("event of a stale connection fd=%d\n", fd)
		log.Errorf("Accept() failed due to error: %v", net.ErrClosed)
	}
	c.flush()
	want := []string{
		"gnet result=fail mensaje=Accept() failed due to error: use of closed network connection",
		"gnet result=fail mensaje=Accept() failed due to error: use of closed network connection suprimidas=1",
		"gnet result=fail mensaje=event of a stale connection fd=0",
		"gnet result=fail mensaje=event of a stale connection fd=1 suprimidas=1",
	}
	if got := c.said(); !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}

// A line that is written late has the time of its event.
func TestLateLinesHaveTheirTime(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	began := time.Unix(1_000_000, 0)
	now := began
	cfg := testConfig()
	cfg.Now = func() time.Time { return now }
	lp := newLoop(New(cfg, zap.New(core), nil), new(spy), nil)
	peer := new(Session)
	peer.Session.Peer = peer
	answer := &commit.Reply{Effect: lottery.Effect{Session: &peer.Session, Kind: lottery.Winners, Agency: 1}}
	now = began.Add(time.Second)
	lp.clock.at = began
	lp.logReply(answer, true) // the agency's first: not noise
	now = now.Add(time.Second)
	lp.clock.at = began.Add(1)
	lp.logReply(answer, true) // noise, written at once
	lp.clock.at = began.Add(2)
	lp.logReply(answer, true) // noise, suppressed
	now = now.Add(time.Minute)
	lp.front.noise.flush()
	var times []time.Duration
	for _, entry := range logs.All() {
		times = append(times, entry.Time.Sub(began))
	}
	if want := []time.Duration{0, 1, 2}; !slices.Equal(times, want) {
		t.Errorf("the lines have the times %v, want %v", times, want)
	}
}
