package engine

import (
	"net"
	"sync"
	"time"
)

// door is where the agencies of a server that leads come from: the address that the server listens
// on, and the relays of the other servers. It is a listener. Close leaves the address open for the
// server's next role, so that agencies that come meanwhile wait.
type door struct {
	listener keptListener
	comes    chan arrival
	closing  func()
	closed   chan struct{}
	pumping  sync.WaitGroup
}

type arrival struct {
	conn net.Conn
	err  error
}

func newDoor(l keptListener) *door {
	d := &door{listener: l, comes: make(chan arrival), closed: make(chan struct{})}
	d.closing = sync.OnceFunc(func() { close(d.closed) })
	d.pumping.Go(d.pump)
	return d
}

func (d *door) pump() {
	for {
		conn, err := d.listener.Accept()
		if !d.offer(arrival{conn, err}) {
			if err == nil {
				_ = conn.Close() // as all connections of a leadership that has ended
			}
			return
		}
	}
}

// offer waits until Accept takes it, or the door is closed.
func (d *door) offer(a arrival) bool {
	select {
	case d.comes <- a:
		return true
	case <-d.closed:
		return false
	}
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	select {
	case a := <-d.comes:
		return a.conn, a.err
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (d *door) Addr() net.Addr { return d.listener.Addr() }

// Close implements net.Listener.
func (d *door) Close() error {
	d.closing()
	err := d.listener.Close()
	d.pumping.Wait()
	return err
}

// keptListener is a listener that stays open when a user closes it: that one accepts no more, and the
// next user reopens it.
type keptListener struct{ *net.TCPListener }

// Close implements net.Listener.
func (l keptListener) Close() error { return l.SetDeadline(time.Unix(1, 0)) }

func (l keptListener) reopen() error { return l.SetDeadline(time.Time{}) }
