package mesh

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"
)

// accept takes connections until the mesh is closed.
func (m *Mesh) accept() {
	for {
		conn, err := m.listener.Accept()
		if m.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // it came too late
			}
			return
		}
		if err != nil {
			m.log.Error("par", zap.String("result", "fail"), zap.NamedError("error", err),
				zap.String("aviso", "is the limit of descriptors reached? trying again"))
			select {
			case <-time.After(acceptRetryDelay):
			case <-m.ctx.Done():
			}
			continue
		}
		m.meet(conn)
		m.busy.Go(func() { m.receive(conn) })
	}
}

// meet counts a stranger. One too many closes the oldest.
func (m *Mesh) meet(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.strangers) == strangersMax {
		_ = m.strangers[0].Close() // it has had its time
		m.strangers = m.strangers[1:]
	}
	m.strangers = append(m.strangers, conn)
	if m.ctx.Err() != nil {
		_ = conn.Close() // Close didn't see it
	}
}

// part ends conn's time as a stranger.
func (m *Mesh) part(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.strangers, conn); i >= 0 {
		m.strangers = slices.Delete(m.strangers, i, i+1)
	}
}

// receive finds out whose connection it is, and delivers what comes. A stranger gets no answer and no
// line in the log at a level that is on by default: anybody could fill the log.
func (m *Mesh) receive(raw net.Conn) {
	defer func() { _ = raw.Close() }() // nothing of ours is on its way
	conn, h, err := m.introduce(raw)
	m.part(raw)
	if err != nil {
		m.log.Debug("par", zap.String("result", "fail"), zap.Stringer("ip", raw.RemoteAddr()), zap.NamedError("error", err))
		return
	}
	if h.lane == stream {
		m.takeStream(conn, raw, h.from)
		return
	}
	from := m.takes(raw, h)
	if from == nil {
		return
	}
	defer m.leaves(raw, from, h.from)
	if _, err := conn.Write([]byte(welcome)); err != nil {
		return
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	largest := 0
	for {
		message, err := readMessage(in, largest)
		if err != nil {
			if errors.Is(err, errMessageTooLarge) {
				m.log.Error("par", zap.String("result", "fail"), zap.Uint64("servidor", h.from), zap.NamedError("error", err))
			}
			return
		}
		largest = max(largest, len(message))
		if !m.delivers(raw, from, h.from, message) {
			return
		}
	}
}

// introduce returns the connection as it is spoken on, and its hello.
func (m *Mesh) introduce(conn net.Conn) (_ net.Conn, h hello, err error) {
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, h, err
	}
	var secure *tls.Conn
	if identity := m.settings.Identity; identity != nil {
		secure = tls.Server(conn, identity.listen())
		conn = secure
		if err := secure.HandshakeContext(m.ctx); err != nil {
			return nil, h, err
		}
	}
	if h, err = readHello(conn); err != nil {
		return nil, h, err
	}
	switch {
	case h.mesh != m.settings.Mesh:
		return nil, h, fmt.Errorf("%w: it is of another draw", errHello)
	case h.to != m.settings.ID:
		return nil, h, fmt.Errorf("%w: it wants server %d", errHello, h.to)
	case h.lane == stream && m.settings.Take == nil:
		return nil, h, fmt.Errorf("%w: it opens a stream", errHello)
	case m.sendersTo(h.from) == nil:
		return nil, h, fmt.Errorf("%w: it says that it is server %d", errHello, h.from)
	}
	if secure != nil {
		_, id, err := serverOf(secure.ConnectionState().PeerCertificates[0])
		if err != nil || id != h.from {
			return nil, h, fmt.Errorf("%w: server %d says that it is server %d", ErrIdentity, id, h.from)
		}
	}
	return conn, h, conn.SetDeadline(time.Time{})
}

// takeStream gives a stream away until it is done with.
func (m *Mesh) takeStream(conn, raw net.Conn, from uint64) {
	m.mu.Lock()
	if m.ctx.Err() != nil || m.senders[from] == nil {
		m.mu.Unlock()
		return
	}
	m.streams[raw] = from
	m.mu.Unlock()
	if _, err := conn.Write([]byte(welcome)); err == nil {
		m.settings.Take(from, conn)
	}
	_ = conn.Close() // with TLS, it says that nothing was cut off
	m.mu.Lock()
	delete(m.streams, raw)
	m.mu.Unlock()
}

// delivers delivers a message, unless the lane has another connection by now, or none.
func (m *Mesh) delivers(conn net.Conn, from *inbound, id uint64, message []byte) bool {
	from.delivering.Lock()
	defer from.delivering.Unlock()
	m.mu.Lock()
	current := from.conn == conn && m.ctx.Err() == nil
	m.mu.Unlock()
	if current {
		m.deliver(id, message)
	}
	return current
}

// takes makes conn the lane's connection in place of the one before: that one's server has dialled
// again, so it is dead, whatever its system says. It returns nil if the connection comes too late.
func (m *Mesh) takes(conn net.Conn, h hello) *inbound {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil || m.senders[h.from] == nil {
		return nil
	}
	from := m.taken[h.from][h.lane]
	if from.conn != nil {
		_ = from.conn.Close()
	}
	from.conn = conn
	for _, s := range m.senders[h.from] {
		select {
		case s.dials <- struct{}{}:
		default:
		}
	}
	return from
}

// leaves ends conn's time as its lane's connection, and says so if it was the server's last one.
func (m *Mesh) leaves(conn net.Conn, from *inbound, id uint64) {
	m.mu.Lock()
	lost := from.conn == conn && m.ctx.Err() == nil
	if from.conn == conn {
		from.conn = nil
	}
	for _, other := range m.taken[id] {
		lost = lost && other.conn == nil
	}
	m.mu.Unlock()
	if lost && m.settings.Lost != nil {
		m.settings.Lost(id)
	}
}
