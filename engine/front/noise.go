package front

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"loteria/codec"
)

const (
	// noisePeriod is the least time between two lines of one event and source.
	noisePeriod = time.Second
	// noiseSourcesMax bounds the pairs of event and source that are kept apart. Beyond it the
	// sources of an event share one pair, called noiseOthers. A pair that waits to be written takes
	// about 1 kB.
	noiseSourcesMax = 4096
	noiseOthers     = "otros"
	// noiseValueBytesMax is how many bytes of a text a line shows. What codec says of a bet is
	// shorter.
	noiseValueBytesMax = 256
)

// Source is the address of a connection's peer, without its port: the bytes of an IPv6 address, or
// of an IPv4 one mapped into IPv6. The zero Source is no address.
type Source [16]byte

func sourceOf(a net.Addr) Source {
	tcp, _ := a.(*net.TCPAddr) // a nil one has the zero address
	return tcp.AddrPort().Addr().As16()
}

func (s Source) String() string { return netip.AddrFrom16(s).Unmap().String() }

// noisyEvent is a kind of log line that strangers can cause as often as they like.
type noisyEvent struct {
	level          zapcore.Level
	action, result string
	// of distinguishes events whose other fields are equal.
	of string
}

// The noisy events, except those of gnet (see gnetLogger). The other lines that a peer can cause
// are bounded by the number of agencies or of stored batches.
var (
	noisyConnection = noisyEvent{level: zapcore.InfoLevel, action: "accept_connections", result: "success"}
	noisyRefused    = noisyEvent{level: zapcore.WarnLevel, action: "accept_connections", result: "fail"}
	noisyAccept     = noisyEvent{level: zapcore.ErrorLevel, action: "accept_connections", result: "fail", of: "accept"}
	noisyReceive    = noisyEvent{level: zapcore.ErrorLevel, action: "recv", result: "fail"}
	noisyDropped    = noisyEvent{level: zapcore.WarnLevel, action: "conexion", result: "fail"}
	noisyTLS        = noisyEvent{level: zapcore.WarnLevel, action: "tls", result: "fail"}
	noisyBatch      = noisyEvent{level: zapcore.InfoLevel, action: "apuesta_recibida", result: "fail"}
	noisyRequest    = noisyEvent{level: zapcore.InfoLevel, action: "solicitud", result: "fail"}
	// It is no failure that the draw is still to come.
	noisyWait          = noisyEvent{level: zapcore.InfoLevel, action: "solicitud", result: "in_progress"}
	noisyProof         = noisyEvent{level: zapcore.WarnLevel, action: "autenticacion", result: "fail"}
	noisyAuthenticated = noisyEvent{level: zapcore.InfoLevel, action: "autenticacion", result: "success"}
	noisyChallenge     = noisyEvent{level: zapcore.DebugLevel, action: "autenticacion", result: "in_progress"}
	// An agency's first HELLO and its first winners are not noise. See firsts.
	noisyHello   = noisyEvent{level: zapcore.InfoLevel, action: "hello", result: "success"}
	noisyWinners = noisyEvent{level: zapcore.InfoLevel, action: "ganadores_enviados", result: "success"}
	// A health check causes these two.
	noisyHealthConnection = noisyEvent{level: zapcore.DebugLevel, action: "accept_connections", result: "success"}
	noisyHealthRequest    = noisyEvent{level: zapcore.DebugLevel, action: "solicitud", result: "fail"}
)

// noise is the log of noisy events. For one event and source it writes at most one line every
// noisePeriod. The first event is written at once. Those that follow too soon share one later line,
// with the number of the others as `suprimidas`, so lines and these numbers add up to the events. A
// line names its source, if it has one, as `ip`.
//
// Any goroutine may log. tick has to be called now and then, and flush after the last event.
type noise struct {
	log *zap.Logger
	now func() time.Time

	suppressed atomic.Int64 // lines, since the start

	mu     sync.Mutex
	recent map[noiseKey]*recentNoise
}

type noiseKey struct {
	event  noisyEvent
	source Source
	others bool // shared by the sources for which there was no room
}

// recentNoise is what is kept of an event and source after a line.
type recentNoise struct {
	until      time.Time   // no line is written before it
	suppressed int         // events since the last line
	first      []zap.Field // of the first of them
	firstAt    time.Time
}

// firsts, by agency id, tells the first time that something happens to an agency from later times.
// Any goroutine may use it.
type firsts []atomic.Bool

// first reports whether it is called for the first time for this agency, which must be an expected
// one.
func (f firsts) first(id codec.Agency) bool { return !f[id].Swap(true) }

// noiseLine is a line on its way to the log.
type noiseLine struct {
	noiseKey
	at         time.Time
	fields     []zap.Field
	suppressed int
}

func newNoise(log *zap.Logger, now func() time.Time) *noise {
	return &noise{log: log, now: now, recent: make(map[noiseKey]*recentNoise)}
}

// write logs an event that has just happened, at once or later. fields hold only numbers and texts,
// and are the caller's again afterwards.
func (n *noise) write(event noisyEvent, from Source, fields ...zap.Field) {
	n.writeAt(n.now(), event, from, fields...)
}

// writeAt is write for an event that happened at the given time. Its line has that time, however
// late it is written.
func (n *noise) writeAt(now time.Time, event noisyEvent, from Source, fields ...zap.Field) {
	if !n.log.Core().Enabled(event.level) {
		return
	}
	n.mu.Lock()
	key, recent := n.find(event, from)
	if now.Before(recent.until) {
		if recent.suppressed == 0 {
			recent.first, recent.firstAt = append([]zap.Field(nil), fields...), now
		}
		recent.suppressed++
		n.suppressed.Add(1)
		n.mu.Unlock()
		return
	}
	line := noiseLine{key, now, append([]zap.Field(nil), fields...), recent.suppressed}
	*recent = recentNoise{until: now.Add(noisePeriod)}
	n.mu.Unlock()
	n.emit(line)
}

// find returns the entry of an event and source, and makes it if there is none. The caller holds
// mu.
func (n *noise) find(event noisyEvent, from Source) (noiseKey, *recentNoise) {
	key := noiseKey{event: event, source: from}
	recent := n.recent[key]
	if recent == nil && len(n.recent) >= noiseSourcesMax && from != (Source{}) {
		key = noiseKey{event: event, others: true}
		recent = n.recent[key]
	}
	if recent == nil {
		recent = new(recentNoise)
		n.recent[key] = recent
	}
	return key, recent
}

// tick writes the suppressed lines that are due, and forgets entries that have been quiet.
func (n *noise) tick() { n.settle(false) }

// flush writes all that was suppressed.
func (n *noise) flush() { n.settle(true) }

func (n *noise) settle(all bool) {
	now := n.now()
	var lines []noiseLine
	n.mu.Lock()
	for key, recent := range n.recent {
		switch {
		case now.Before(recent.until) && !all:
		case recent.suppressed == 0:
			delete(n.recent, key)
		default:
			lines = append(lines, noiseLine{key, recent.firstAt, recent.first, recent.suppressed - 1})
			*recent = recentNoise{until: now.Add(noisePeriod)}
		}
	}
	n.mu.Unlock()
	for _, line := range lines {
		n.emit(line)
	}
}

// emit writes a line. It is called without mu, because the log may have to wait for its reader.
func (n *noise) emit(line noiseLine) {
	entry := n.log.Check(line.event.level, line.event.action)
	if entry == nil {
		return
	}
	entry.Time = line.at
	fields := append([]zap.Field{zap.String("result", line.event.result)}, line.fields...)
	for i := range fields {
		if fields[i].Type == zapcore.StringType {
			fields[i].String = plainText(fields[i].String)
		}
	}
	switch {
	case line.others:
		fields = append(fields, zap.String("ip", noiseOthers))
	case line.source != Source{}:
		fields = append(fields, zap.Stringer("ip", line.source))
	}
	if line.suppressed > 0 {
		fields = append(fields, zap.Int("suprimidas", line.suppressed))
	}
	entry.Write(fields...)
}

// plainText makes a text from outside safe for any log and terminal. It keeps at most
// noiseValueBytesMax bytes, quotes them unless all are printable ASCII, and replaces each '|',
// which ends a value in our lines, by '¦'. A '¦' passes for ASCII, because codec also shows '|' as
// '¦'.
func plainText(s string) string {
	more := ""
	if len(s) > noiseValueBytesMax {
		s, more = s[:noiseValueBytesMax], "..."
	}
	if strings.ContainsFunc(s, func(c rune) bool { return c != '¦' && (c < ' ' || c > '~') }) {
		s = strconv.QuoteToASCII(s)
	}
	return strings.ReplaceAll(s, "|", "¦") + more
}
