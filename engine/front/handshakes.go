package front

import (
	"context"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

// handshakePatience is how long a peer may let its TLS handshake stand still while others wait to
// begin theirs.
const handshakePatience = 500 * time.Millisecond

// handshakes are the TLS handshakes under way. Each has a goroutine. One that calculates takes a core
// from the event loops, so no more may do so than there are cores. One that waits for its peer takes
// only memory. There may be max of both; if more want to begin, those that have waited for their peers
// for longer than handshakePatience make room.
type handshakes struct {
	max       int
	calculate chan struct{} // one for each that calculates
	freed     chan struct{} // holds one: there may be room again

	mu   sync.Mutex // guards open, and when they began to wait
	open []*handshaking
}

// handshaking is a connection on which a handshake is under way.
type handshaking struct {
	net.Conn
	all     *handshakes
	waits   time.Time // since when it waits for its peer; zero: it doesn't
	crowded bool      // it was closed to make room; guarded by all.mu
}

func newHandshakes(limit int) *handshakes {
	return &handshakes{max: limit, calculate: make(chan struct{}, runtime.GOMAXPROCS(0)), freed: make(chan struct{}, 1)}
}

// begin returns when there is room for a handshake on c, or nil once ctx is done. Call run and end
// afterwards.
func (all *handshakes) begin(ctx context.Context, c net.Conn) *handshaking {
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
func (all *handshakes) tryBegin(c net.Conn) (_ *handshaking, wait time.Duration) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.open) >= all.max {
		now, longest := time.Now(), (*handshaking)(nil)
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
	h := &handshaking{Conn: c, all: all}
	all.open = append(all.open, h)
	return h, 0
}

func (all *handshakes) remove(h *handshaking) {
	all.open = slices.DeleteFunc(all.open, func(other *handshaking) bool { return other == h })
}

// run calls f, which calculates but while it reads.
func (h *handshaking) run(f func()) {
	h.all.calculate <- struct{}{}
	defer func() { <-h.all.calculate }()
	f()
}

// end makes room for another handshake. crowded reports whether that had to be made before.
func (h *handshaking) end() (crowded bool) {
	h.all.mu.Lock()
	h.all.remove(h)
	crowded = h.crowded
	h.all.mu.Unlock()
	select {
	case h.all.freed <- struct{}{}:
	default:
	}
	return crowded
}

// Read implements net.Conn.
func (h *handshaking) Read(p []byte) (int, error) {
	h.wait(time.Now())
	<-h.all.calculate
	n, err := h.Conn.Read(p)
	h.all.calculate <- struct{}{}
	h.wait(time.Time{})
	return n, err
}

func (h *handshaking) wait(since time.Time) {
	h.all.mu.Lock()
	h.waits = since
	h.all.mu.Unlock()
}
