package admin

import (
	"net"
	"net/http"
	"sync"
)

// door lets connections in, at most connectionsMax at once, and knows which are open.
type door struct {
	net.Listener
	refused func() // is told of each connection that isn't let in

	mu      sync.Mutex
	open    map[net.Conn]http.ConnState
	closing bool
	empty   chan struct{} // closed when none is open any more, once closing is set
}

func newDoor(l net.Listener, refused func()) *door {
	return &door{Listener: l, refused: refused,
		open: make(map[net.Conn]http.ConnState), empty: make(chan struct{})}
}

// Accept closes connections for which there is no room, and waits for the next one.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !d.full() {
			if tcp, ok := conn.(*net.TCPConn); ok {
				// Without it the connection works, and the kernel bounds its buffers less tightly.
				_, _ = tcp.SetReadBuffer(socketBytes), tcp.SetWriteBuffer(socketBytes)
			}
			return conn, nil
		}
		_ = conn.Close() // nothing was said, so nothing is lost
		d.refused()
	}
}

func (d *door) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.open) >= connectionsMax
}

// turned is http.Server's ConnState. A new connection is known here before the next is accepted.
func (d *door) turned(conn net.Conn, to http.ConnState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if to != http.StateClosed {
		d.open[conn] = to
		if d.closing && to != http.StateActive {
			_ = conn.Close() // it is owed nothing
		}
		return
	}
	delete(d.open, conn)
	if d.closing && len(d.open) == 0 {
		close(d.empty)
	}
}

// hangUp closes the connections that are owed nothing, and each of the others when it has its
// answer. It is called once, when no more are accepted. The channel is closed when none is left.
func (d *door) hangUp() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing = true
	if len(d.open) == 0 {
		close(d.empty)
	}
	for conn, state := range d.open {
		if state != http.StateActive {
			_ = conn.Close()
		}
	}
	return d.empty
}
