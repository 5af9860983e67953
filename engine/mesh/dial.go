package mesh

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// dial returns a connection that the other server has taken.
func (m *Mesh) dial(ctx context.Context, to uint64, addr string, l lane) (_ net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := net.Dialer{KeepAliveConfig: keepAlive, Control: endUnacknowledged}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	raw := conn
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })() // it takes too long, or is no longer wanted
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	if identity := m.settings.Identity; identity != nil {
		secure := tls.Client(conn, identity.dial(to))
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, err
	}
	h := hello{mesh: m.settings.Mesh, lane: l, from: m.settings.ID, to: to}
	if _, err := conn.Write(h.encode()); err != nil {
		return nil, err
	}
	var b [len(welcome)]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return nil, fmt.Errorf("server %d doesn't take the connection: is it of the same draw? %w", to, err)
	}
	if string(b[:]) != welcome {
		return nil, fmt.Errorf("%w: it answers %q", errHello, b[:])
	}
	return conn, conn.SetDeadline(time.Time{})
}
