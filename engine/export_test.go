package engine

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"

	"loteria/engine/ledger"
)

// OpenWith is Open with a ledger of other segments, or on another file system.
func OpenWith(cfg Config, log *zap.Logger, options ledger.Options) (*Server, error) {
	return open(cfg, log, options)
}

// AwaitAccepted returns when the connection that a peer made from addr belongs
// to an event loop.
func (s *Server) AwaitAccepted(ctx context.Context, addr net.Addr) error {
	for {
		var found atomic.Bool
		err := s.onLoops(ctx, func(lp *loop) {
			for _, sess := range lp.sessions {
				if c, ok := sess.conn.(gnet.Conn); ok && c.RemoteAddr().String() == addr.String() {
					found.Store(true)
				}
			}
		})
		if err != nil || found.Load() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// AwaitRead returns when the event loops have read what had arrived in their
// sockets before the call. A loop runs its tasks after it has read from every
// socket that was ready; the second round is for a task that was queued while
// the loop was already busy with others.
func (s *Server) AwaitRead(ctx context.Context) error {
	return errors.Join(s.onLoops(ctx, func(*loop) {}), s.onLoops(ctx, func(*loop) {}))
}

// onLoops runs f on every event loop that has had a connection, and returns
// when all of them have.
func (s *Server) onLoops(ctx context.Context, f func(*loop)) error {
	done := make(chan struct{}, len(s.loops))
	waiting := 0
	for _, lp := range s.loops {
		lp.post(func(m *mailbox) {
			if m.el != nil {
				waiting++
				m.ran = append(m.ran, func() {
					f(lp)
					done <- struct{}{}
				})
			}
		})
	}
	for ; waiting > 0; waiting-- {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
