package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// dialTimeout is how long a connection may take, from the dial to the other server's welcome.
	dialTimeout = 2 * time.Second
	// helloTimeout is how long a stranger may take to say who it is.
	helloTimeout = 2 * time.Second
	// strangersMax is how many connections may not have said yet who they are.
	strangersMax = 64
	// writeTimeout is how long a peer may take nothing of what is sent to it.
	writeTimeout = 5 * time.Second

	// A server that can't be reached is dialled again after retryMin. The delay doubles up to
	// retryMax; it is short, because a draw stands still while a quorum is missing.
	retryMin = 20 * time.Millisecond
	retryMax = 500 * time.Millisecond

	// acceptRetryDelay is how long to wait when nothing can be accepted.
	acceptRetryDelay = 50 * time.Millisecond
)

// keepAlive finds a dead peer to which nothing is sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 4}

// The bounds of Settings.
const (
	LaneBytesMaxDefault = 64 << 20
	ServersMax          = 9
)

// Errors of Listen, SetServers and Open. ErrListen wraps the system's.
var (
	ErrListen   = errors.New("cannot listen for other servers")
	ErrSettings = errors.New("servers are not legal")
	ErrServer   = errors.New("not one of the other servers")
	ErrClosed   = errors.New("the mesh is closed")
)

// Settings are what a mesh is made with.
type Settings struct {
	// ID is this server's, one of Servers.
	ID uint64
	// Servers are the addresses of all servers, by id from 1 on, HOST:PORT each. There are 2 to
	// ServersMax of them. This server's own isn't dialled. SetServers changes them.
	Servers map[uint64]string
	// Addr is the address to listen on.
	Addr string
	// Mesh tells the servers of one draw from those of another. It is the same on all of them.
	Mesh [16]byte
	// Identity authenticates connections; nil makes them plain. Its id is ID.
	Identity *Identity
	// Take is given each stream that another server opens, and owns it: it returns when it is done
	// with it. Calls come at the same time. When the mesh is closed, the stream is, too. nil refuses
	// streams.
	Take func(from uint64, stream net.Conn)
	// Lost is told that another server's connections to this one have all ended, behind the last
	// message that came on them. The server may be gone, or dial again. Lost must not wait for long, as
	// Deliver. It may be nil.
	Lost func(server uint64)
	// LaneBytesMax bounds the messages that wait for a connection to take them, for each server and
	// lane. 0 stands for LaneBytesMaxDefault.
	LaneBytesMax int
}

func (s *Settings) check() error {
	if err := s.checkServers(s.Servers); err != nil {
		return err
	}
	if s.Identity != nil && s.Identity.id != s.ID {
		return fmt.Errorf("%w: the certificate is server %d's, and this is server %d", ErrSettings, s.Identity.id, s.ID)
	}
	return nil
}

func (s *Settings) checkServers(servers map[uint64]string) error {
	if n := len(servers); n < 2 || n > ServersMax {
		return fmt.Errorf("%w: %d of them: want 2 to %d", ErrSettings, n, ServersMax)
	}
	for id, addr := range servers {
		if _, _, err := net.SplitHostPort(addr); id == 0 || err != nil {
			return fmt.Errorf("%w: server %d at %q: want an id from 1 on, and HOST:PORT", ErrSettings, id, addr)
		}
	}
	if _, there := servers[s.ID]; !there {
		return fmt.Errorf("%w: server %d is not one of them", ErrSettings, s.ID)
	}
	return nil
}

// Deliver takes a message from another server. The message is its own from then on. Calls for
// one server and lane come one after the other; those for others come at the same time. While it
// doesn't return, nothing more is read of that connection. It may call Send, and not Close.
type Deliver func(from uint64, message []byte)

// Mesh is one server's connections to the others. Its methods may be called from any goroutine.
type Mesh struct {
	settings Settings
	log      *zap.Logger
	deliver  Deliver
	listener net.Listener

	writeTimeout time.Duration // the constant; a test has less patience

	ctx  context.Context // done when the mesh is closed
	stop context.CancelFunc
	busy sync.WaitGroup

	mu        sync.Mutex                  // guards what follows, and each inbound's conn
	senders   map[uint64]*[lanes]*sender  // of the other servers that there are now
	taken     map[uint64]*[lanes]*inbound // of those that have ever been
	strangers []net.Conn                  // the oldest first
	streams   map[net.Conn]uint64         // that other servers have opened: which
}

// inbound is a lane from another server.
type inbound struct {
	conn       net.Conn   // the newest; nil if there is none
	delivering sync.Mutex // held while a message is delivered
}

// Listen listens, and begins to dial the other servers. Errors wrap ErrListen or ErrSettings.
func Listen(settings Settings, log *zap.Logger, deliver Deliver) (*Mesh, error) {
	if err := settings.check(); err != nil {
		return nil, err
	}
	if settings.LaneBytesMax == 0 {
		settings.LaneBytesMax = LaneBytesMaxDefault
	}
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	listener, err := config.Listen(context.Background(), "tcp", settings.Addr)
	if err != nil {
		return nil, fmt.Errorf("%w on %s: %w", ErrListen, settings.Addr, err)
	}
	m := &Mesh{
		settings: settings, log: log, deliver: deliver, listener: listener,
		senders: make(map[uint64]*[lanes]*sender), taken: make(map[uint64]*[lanes]*inbound),
		streams:      make(map[net.Conn]uint64),
		writeTimeout: writeTimeout,
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	if err := m.SetServers(settings.Servers); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	m.busy.Go(m.accept)
	return m, nil
}

// SetServers changes which servers there are, and where, as Settings.Servers says it. The map is
// only read. A new server is dialled, and may connect. A server that is at another address is
// dialled there. What waits for one of these, or for one that is gone, is dropped. The connections
// of one that is gone end, also the streams that it has opened; those that this server has opened
// stay their caller's. SetServers waits for nothing, and Deliver may call it: so a message on its way
// to Deliver, of each lane, may still arrive. Errors wrap ErrSettings, or are ErrClosed: then nothing
// has changed.
func (m *Mesh) SetServers(servers map[uint64]string) error {
	if err := m.settings.checkServers(servers); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return ErrClosed
	}
	for id, senders := range m.senders {
		addr, there := servers[id]
		if there && addr == senders[urgent].addr {
			continue
		}
		for _, s := range senders {
			s.stop()
		}
		delete(m.senders, id)
		if !there {
			m.endConnections(id)
		}
	}
	for id, addr := range servers {
		if id == m.settings.ID || m.senders[id] != nil {
			continue
		}
		m.senders[id] = new([lanes]*sender)
		for l := range lanes {
			s := newSender(m, id, addr, l)
			m.senders[id][l] = s
			m.busy.Go(s.run)
		}
		if m.taken[id] == nil {
			// They stay for good: a server that is there again must not be heard beside what it said
			// before, which may still be on its way to Deliver.
			m.taken[id] = &[lanes]*inbound{new(inbound), new(inbound)}
		}
	}
	return nil
}

// endConnections ends all connections that a server has made. The mutex is held.
func (m *Mesh) endConnections(id uint64) {
	for _, from := range m.taken[id] {
		if from.conn != nil {
			_ = from.conn.Close() // what is lost may be lost
			from.conn = nil
		}
	}
	for c, from := range m.streams {
		if from == id {
			_ = c.Close()
		}
	}
}

// sendersTo returns the lanes to a server, and nil if it is not one of the others.
func (m *Mesh) sendersTo(id uint64) *[lanes]*sender {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.senders[id]
}

// Addr is the address that the mesh listens on.
func (m *Mesh) Addr() net.Addr { return m.listener.Addr() }

// Send gives a message, in parts, to another server's connection, and doesn't wait. The parts are not
// copied: nobody may change them any more. An urgent message overtakes those that are not. Send returns
// false if the message is dropped: the server is not one of the others, there is no connection to it,
// or its lane is full. A true is no promise.
//
// It panics on a message over MessageBytesMax.
func (m *Mesh) Send(to uint64, isUrgent bool, parts ...[]byte) bool {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size > MessageBytesMax {
		panic(fmt.Sprintf("mesh: a message of %d bytes, at most %d are legal", size, MessageBytesMax))
	}
	l := bulk
	if isUrgent {
		l = urgent
	}
	senders := m.sendersTo(to)
	return senders != nil && senders[l].send(size, parts)
}

// Open opens a stream to another server: bytes both ways, as of one TCP connection, which the
// other server's Take has. It waits for at most as long as a dial may take. The stream is the
// caller's to close, before the mesh is closed. Errors are of the network, or wrap ErrIdentity or
// ErrServer.
func (m *Mesh) Open(to uint64) (net.Conn, error) {
	senders := m.sendersTo(to)
	if senders == nil {
		return nil, fmt.Errorf("%w: %d", ErrServer, to)
	}
	return m.dial(senders[urgent].ctx, to, senders[urgent].addr, stream)
}

// Connected reports whether both lanes to a server have a connection. It is false for a server that
// is not one of the others.
func (m *Mesh) Connected(to uint64) bool {
	senders := m.sendersTo(to)
	if senders == nil {
		return false
	}
	for _, s := range senders {
		if !s.connected() {
			return false
		}
	}
	return true
}

// Close closes the address and all connections, and waits until no Deliver runs any more.
func (m *Mesh) Close() error {
	m.stop()
	err := m.listener.Close()
	m.mu.Lock()
	for _, c := range m.strangers {
		_ = c.Close() // it was taken for nothing
	}
	for id := range m.taken {
		m.endConnections(id)
	}
	m.mu.Unlock()
	m.busy.Wait()
	return err
}
