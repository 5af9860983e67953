package channel

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// handshakePatience is how long a peer may let its TLS handshake stand still, in all, while others wait
// to begin theirs. It needs one round trip.
const handshakePatience = 500 * time.Millisecond

// Handshakes are the TLS handshakes under way. Each has a goroutine. One that calculates takes a core
// from the event loops, so no more may do so than there are cores. One that waits for its peer takes
// only memory. There may be max of both; if more want to begin, those that wait for their peers, and
// have done so for longer than handshakePatience, make room.
type Handshakes struct {
	max       int
	calculate chan struct{} // one for each that calculates
	freed     chan struct{} // holds one: there may be room again

	mu   sync.Mutex // guards open, and when they began to wait
	open []*Handshaking
}

// Handshaking is a connection on which a handshake is under way.
type Handshaking struct {
	net.Conn
	all *Handshakes
	// waits is since when it waits for its peer, zero if it doesn't, and waited how long it had done so
	// before. A peer that sends byte after byte waits all the time. Guarded by all.mu.
	waits   time.Time
	waited  time.Duration
	crowded bool // it was closed to make room
	ended   bool
}

// NewHandshakes are none yet, and at most limit.
func NewHandshakes(limit int) *Handshakes {
	return &Handshakes{max: limit, calculate: make(chan struct{}, runtime.GOMAXPROCS(0)), freed: make(chan struct{}, 1)}
}

// Begin returns when there is room for a handshake on c, or nil once ctx is done. Call Run and then End
// afterwards. Any goroutine may call it.
func (all *Handshakes) Begin(ctx context.Context, c net.Conn) *Handshaking {
	for {
		h, wait := all.tryBegin(c)
		if h != nil {
			return h
		}
		select {
		case <-all.freed:
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// tryBegin makes room if it can. If there is none, wait is how long until there may be.
func (all *Handshakes) tryBegin(c net.Conn) (_ *Handshaking, wait time.Duration) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.open) >= all.max {
		now, longest, waited := time.Now(), (*Handshaking)(nil), time.Duration(0)
		for _, h := range all.open {
			if h.waits.IsZero() {
				continue
			}
			if took := h.waited + now.Sub(h.waits); longest == nil || took > waited {
				longest, waited = h, took
			}
		}
		if longest == nil {
			return nil, handshakePatience
		}
		if wait := handshakePatience - waited; wait > 0 {
			return nil, wait
		}
		longest.crowded = true
		_ = longest.Close() // its goroutine reads that it is closed
		all.remove(longest)
	}
	h := &Handshaking{Conn: c, all: all}
	all.open = append(all.open, h)
	return h, 0
}

// Beside is a handshake that takes no place, because its caller bounds how many there are. Call Run and
// then End.
func (all *Handshakes) Beside(c net.Conn) *Handshaking { return &Handshaking{Conn: c, all: all} }

func (all *Handshakes) remove(h *Handshaking) {
	all.open = slices.DeleteFunc(all.open, func(other *Handshaking) bool { return other == h })
}

// Run calls f, which calculates but while it reads from h.
func (h *Handshaking) Run(f func()) {
	h.all.calculate <- struct{}{}
	defer func() { <-h.all.calculate }()
	f()
}

// End makes room for another handshake. From now on h is the connection, and nothing more.
func (h *Handshaking) End() {
	h.all.mu.Lock()
	h.all.remove(h)
	h.ended = true
	h.all.mu.Unlock()
	select {
	case h.all.freed <- struct{}{}:
	default:
	}
}

// IsCrowded reports whether the connection was closed because others waited. Call it after End.
func (h *Handshaking) IsCrowded() bool { return h.crowded }

// Explain says why the handshake has failed, and what to do about it. Call it after End.
func (h *Handshaking) Explain(err error) string {
	switch {
	case h.crowded:
		return "closed: it stood still while others waited; see SERVER_TLS_HANDSHAKES"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "closed: it was not over within SERVER_READ_TIMEOUT"
	}
	return Explain(err)
}

// Read implements net.Conn.
func (h *Handshaking) Read(p []byte) (int, error) {
	if h.ended {
		return h.Conn.Read(p)
	}
	defer h.leaveCore()()
	return h.Conn.Read(p)
}

// Write implements net.Conn.
func (h *Handshaking) Write(p []byte) (int, error) {
	if h.ended {
		return h.Conn.Write(p)
	}
	defer h.leaveCore()()
	return h.Conn.Write(p)
}

// leaveCore has another handshake calculate, until the function that it returns is called. The peer's
// time is over when it has answered, not when this handshake has its turn again.
func (h *Handshaking) leaveCore() (takeCore func()) {
	h.all.mu.Lock()
	h.waits = time.Now()
	h.all.mu.Unlock()
	<-h.all.calculate
	return func() {
		h.all.mu.Lock()
		h.waited += time.Since(h.waits)
		h.waits = time.Time{}
		h.all.mu.Unlock()
		h.all.calculate <- struct{}{}
	}
}
