package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"loteria/codec"
)

// refusedMax is how many connections over SERVER_CONNECTIONS_MAX are told why
// they are refused. More than that are closed without a word.
const refusedMax = 64

// healthFrame is all that a health check says: an empty payload. See
// `loteria health`.
const healthFrame = "0\n"

// handler is what gnet calls: OnBoot once, the others on the event loops.
type handler struct {
	gnet.BuiltinEventEngine
	server *Server
}

// OnBoot runs when the socket listens and before the loops start.
func (h *handler) OnBoot(engine gnet.Engine) gnet.Action {
	addr, err := boundAddr(engine)
	if err != nil {
		h.server.bootErr = fmt.Errorf("%w: %w", ErrListen, err)
		return gnet.Shutdown
	}
	h.server.engine, h.server.addr = engine, addr
	close(h.server.ready)
	return gnet.None
}

// boundAddr asks the kernel where the listener is, since port 0 means any.
func boundAddr(engine gnet.Engine) (net.Addr, error) {
	fd, err := engine.Dup()
	if err != nil {
		return nil, err
	}
	name, err := unix.Getsockname(fd)
	if errClose := unix.Close(fd); err == nil {
		err = errClose
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: append(net.IP(nil), a.Addr[:]...), Port: a.Port}, err
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: append(net.IP(nil), a.Addr[:]...), Port: a.Port}, err
	}
	return nil, fmt.Errorf("listener has an address of type %T: %w", name, err)
}

func (h *handler) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	s := h.server
	lp := s.loopOf(c.EventLoop())
	sess := &session{conn: c, loop: lp}
	sess.lottery.Peer = sess
	c.SetContext(sess)
	lp.add(sess)
	limitUnacknowledged(c.Fd(), peerTimeout)
	open := s.connOpened()
	switch {
	case s.stopping.Load() || open > s.cfg.ConnectionsMax+refusedMax:
		return nil, gnet.Close
	case open > s.cfg.ConnectionsMax:
		s.log.Warn("accept_connections", zap.String("result", "fail"), zap.Stringer("error", codec.CodeTooManyConnections), zap.Int("conexiones", open-1))
		sess.announced = true
		sess.deaf, sess.lastSaid = true, true // a tick will shut it
		return codec.AppendError(nil, codec.CodeTooManyConnections, ""), gnet.None
	}
	return nil, gnet.None
}

func (h *handler) OnTraffic(c gnet.Conn) gnet.Action {
	sess := c.Context().(*session)
	in, err := c.Next(-1)
	if err != nil {
		h.server.log.Error("recv", zap.String("result", "fail"), zap.Error(err))
		return gnet.Close
	}
	if !sess.announced {
		sess.announced = true
		h.announce(c, in)
	}
	if !sess.deaf && !h.server.stopping.Load() {
		sess.receive(in, &sess.loop.box)
	}
	return gnet.None
}

// announce writes a connection's line when its first bytes come. A health check
// comes every few seconds, says an empty frame, and is not worth a line.
func (h *handler) announce(c gnet.Conn, in []byte) {
	level := zapcore.InfoLevel
	if string(in) == healthFrame {
		level = zapcore.DebugLevel
	}
	if entry := h.server.log.Check(level, "accept_connections"); entry != nil {
		entry.Write(zap.String("result", "success"), zap.String("ip", host(c.RemoteAddr())))
	}
}

func (h *handler) OnClose(c gnet.Conn, err error) gnet.Action {
	sess := c.Context().(*session)
	lp := sess.loop
	// A half-closed peer is owed its answers. What gnet has buffered for it can't
	// be taken along, so a peer that is behind with reading is let go.
	if errors.Is(err, io.EOF) && !sess.lastSaid && sess.unanswered > 0 && c.OutboundBuffered() == 0 {
		if fd, errDup := c.Dup(); errDup == nil {
			sess.conn = &halfConn{fd: fd}
			sess.deaf = true
			sess.dropPartial(&lp.box)
			lp.box.stage.add(request{session: sess, kind: requestHalfClose}, nil, nil)
			return gnet.None
		}
	}
	if sess.owesOut && c.OutboundBuffered() == 0 {
		sess.owesOut = false
		lp.box.stage.add(request{session: sess, kind: requestServed}, nil, nil)
	}
	lp.bury(sess)
	return gnet.None
}

// shutWrite tells the peer that nothing more will come. The connection stays
// open for reading until the peer closes it.
func shutWrite(c conn) {
	if g, ok := c.(gnet.Conn); ok {
		_ = unix.Shutdown(g.Fd(), unix.SHUT_WR) // fails only if the peer is gone already
	}
}

func host(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return fmt.Sprint(a)
}

// gnetLogger is gnet's log in our lines. What gnet reports as information is
// its own affair.
type gnetLogger struct{ log *zap.Logger }

func (g gnetLogger) write(level zapcore.Level, result, format string, args []any) {
	if entry := g.log.Check(level, "gnet"); entry != nil {
		entry.Write(zap.String("result", result), zap.String("mensaje", strings.TrimSpace(fmt.Sprintf(format, args...))))
	}
}

func (g gnetLogger) Debugf(format string, args ...any) {
	g.write(zapcore.DebugLevel, "success", format, args)
}

func (g gnetLogger) Infof(format string, args ...any) {
	g.write(zapcore.DebugLevel, "success", format, args)
}

func (g gnetLogger) Warnf(format string, args ...any) {
	g.write(zapcore.WarnLevel, "fail", format, args)
}

func (g gnetLogger) Errorf(format string, args ...any) {
	g.write(zapcore.ErrorLevel, "fail", format, args)
}

func (g gnetLogger) Fatalf(format string, args ...any) {
	g.write(zapcore.ErrorLevel, "fail", format, args)
}
