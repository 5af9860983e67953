package front

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"loteria/engine/channel"
	"loteria/engine/commit"
)

// healthFrame is all that a health check (`loteria health`) sends: a frame with an empty payload.
const healthFrame = "0\n"

// plainBytes is how much of what comes over TLS is heard at once. A record holds little more than one
// batch, so frames that were heard record by record would mostly be halves.
const plainBytes = 8 * channel.RecordBytesMax

// tlsHandshake is the first byte of a client that speaks TLS. No frame begins so.
const tlsHandshake = 22

// handler is called by gnet, on the event loops. A connection's context is its session; the context
// of a loop's sentinel is the loop.
type handler struct {
	gnet.BuiltinEventEngine
	front *Front
}

func (h *handler) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	sess, ok := c.Context().(*Session)
	if !ok {
		return nil, gnet.None
	}
	limitUnacknowledged(c.Fd(), max(peerTimeout, 2*h.front.cfg.ReadTimeout))
	forgetIP(c.LocalAddr())
	forgetIP(c.RemoteAddr())
	return nil, h.front.Open(sess, &socket{descriptor(c.Fd()), c})
}

// forgetIP frees the IP that the net package keeps in an address. For a connection's two addresses
// that is 64 bytes of the 800 that a waiting agency takes. The session has the source.
func forgetIP(a net.Addr) {
	if tcp, ok := a.(*net.TCPAddr); ok {
		tcp.IP = nil
	}
}

func (h *handler) OnTraffic(c gnet.Conn) gnet.Action {
	sess, ok := c.Context().(*Session)
	if !ok {
		return gnet.None
	}
	in, err := c.Next(-1)
	if err != nil {
		h.front.noise.write(noisyReceive, sess.source, zap.String("error", err.Error()))
		return gnet.Close
	}
	if sess.secure != nil {
		return h.unseal(sess, in)
	}
	h.hear(sess, in)
	return gnet.None
}

// hear takes what a peer has said.
func (h *handler) hear(sess *Session, in []byte) {
	if sess.said == saidNothing {
		sess.said = saidBytes
		event := noisyConnection
		if string(in) == healthFrame {
			event = noisyHealthConnection // it comes every few seconds: debug level only
		}
		h.front.noise.write(event, sess.source)
		if len(in) > 0 && in[0] == tlsHandshake {
			h.front.noise.write(noisyTLS, sess.source,
				zap.String("error", "it is TLS that comes to SERVER_ADDR: over TLS, agencies come to SERVER_TLS_ADDR"))
		}
	}
	if sess.phase.hears() && !h.front.stopping.Load() {
		sess.receive(in, &sess.loop.rd)
		sess.loop.rd.shed()
	}
}

// unseal takes what a peer has said over TLS. It goes on if the peer isn't heard any more: it may say
// its end.
func (h *handler) unseal(sess *Session, in []byte) gnet.Action {
	c, lp := sess.secure, sess.loop
	if lp.plain == nil {
		lp.plain = make([]byte, plainBytes)
	}
	c.channel.Feed(in)
	defer c.channel.Feed(nil) // in is the loop's
	for dry := false; !dry; {
		n, err := 0, error(nil)
		for n < len(lp.plain) && !dry && err == nil {
			var more []byte
			more, err = c.channel.Next(lp.plain[n:])
			n += len(more)
			dry = len(more) == 0
		}
		if n > 0 {
			h.hear(sess, lp.plain[:n])
		}
		if err != nil && !errors.Is(err, io.EOF) {
			h.front.noise.write(noisyTLS, sess.source, zap.String("error", err.Error()))
			_, _ = c.flush() // the alert that says why, if there is room for it
		}
		if err != nil {
			return gnet.Close // see OnClose
		}
	}
	if sess.phase != gone {
		// There is something only if the peer has asked for new keys. If there is no room, it waits for
		// the next answer. An error comes again.
		_, _ = c.flush()
	}
	return gnet.None
}

func (h *handler) OnClose(c gnet.Conn, err error) gnet.Action {
	sess, ok := c.Context().(*Session)
	if !ok {
		h.front.end()
		return gnet.None
	}
	lp := sess.loop
	shut := sess.hasEnded(err) // on purpose, and it may read on
	if shut && sess.delivery == untaken && sess.backlog == nil {
		// A peer that closes with bytes unread resets the connection, which is not io.EOF.
		if n, err := sess.conn.Unacknowledged(); n == 0 && err == nil {
			sess.taken(&lp.rd)
		}
	}
	// A half-closed peer still gets its answers, and the time to take its winners.
	if shut &&
		(sess.unanswered > 0 && sess.phase.answers() || sess.backlog != nil || sess.delivery == untaken) {
		if fd, errDup := c.Dup(); errDup == nil {
			probeSoon(fd)
			sess.over(&halfSocket{descriptor(fd)})
			sess.become(peerShut, &lp.rd)
			lp.rd.stage.Add(commit.Request{Peer: &sess.Peer, Kind: commit.HalfClose}, nil, nil)
			return gnet.None
		}
	}
	lp.bury(sess)
	if shut {
		sess.sealEnd() // all that it was owed has left, so there is room
	}
	return gnet.None
}

// gnetLogger writes gnet's log as our lines. What gnet logs as information is debug to us.
// Strangers can cause the rest, so each format is a noisy event.
type gnetLogger struct{ noise *noise }

func (g gnetLogger) Debugf(format string, args ...any) { g.write(zap.DebugLevel, format, args) }
func (g gnetLogger) Infof(format string, args ...any)  { g.write(zap.DebugLevel, format, args) }
func (g gnetLogger) Warnf(format string, args ...any)  { g.write(zap.WarnLevel, format, args) }
func (g gnetLogger) Errorf(format string, args ...any) { g.write(zap.ErrorLevel, format, args) }
func (g gnetLogger) Fatalf(format string, args ...any) { g.write(zap.ErrorLevel, format, args) }

func (g gnetLogger) write(level zapcore.Level, format string, args []any) {
	event := noisyEvent{level: level, action: "gnet", result: "success", of: format}
	if level >= zap.WarnLevel {
		event.result = "fail"
	}
	message := strings.TrimSpace(fmt.Sprintf(format, args...))
	g.noise.write(event, Source{}, zap.String("mensaje", message))
}
