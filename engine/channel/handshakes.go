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

// handshakePatience is how long a peer may let its TLS handshake stand still while others wait to
// begin theirs.
const handshakePatience = 500 * time.Millisecond

// Handshakes are the TLS handshakes under way. Each has a goroutine. One that calculates takes a core
// from the event loops, so no more may do so than there are cores. One that waits for its peer takes
// only memory. There may be max of both; if more want to begin, those that have waited for their peers
// for longer than handshakePatience make room.
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
	all     *Handshakes
	waits   time.Time // since when it waits for its peer; zero: it doesn't; guarded by all.mu
	crowded bool      // it was closed to make room
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
		now, longest := time.Now(), (*Handshaking)(nil)
		for _, h := range all.open {
			if !h.waits.IsZero() && (longest == nil || h.waits.Before(longest.waits)) {
				longest = h
			}
		}
		if longest == nil {
			return nil, handshakePatience
		}
		if wait := handshakePatience - now.Sub(longest.waits); wait > 0 {
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
	h.wait(time.Now())
	<-h.all.calculate
	n, err := h.Conn.Read(p)
	h.all.calculate <- struct{}{}
	h.wait(time.Time{})
	return n, err
}

func (h *Handshaking) wait(since time.Time) {
	h.all.mu.Lock()
	h.waits = since
	h.all.mu.Unlock()
}
