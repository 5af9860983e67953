package engine

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"loteria/engine/ledger"
)

// OpenWith is Open with a ledger of other segments, or on another file system.
func OpenWith(cfg Config, log *zap.Logger, options ledger.Options) (*Server, error) {
	return openListening(cfg, log, options)
}

// Refused is how many connections were refused.
func (s *Server) Refused() int64 {
	return s.counters[limitConnections].Load() + s.counters[limitSource].Load()
}

// AwaitAccepted returns when the connection that a peer made from addr belongs
// to an event loop, or more than refused are refused.
func (s *Server) AwaitAccepted(ctx context.Context, addr net.Addr, refused int64) error {
	for s.Refused() == refused {
		var found atomic.Bool
		err := s.onLoops(ctx, func(lp *loop) {
			for _, sess := range lp.sessions {
				if c, ok := sess.conn.(*socket); ok && c.gnet.RemoteAddr().(*net.TCPAddr).Port == addr.(*net.TCPAddr).Port {
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
	return nil
}

// IdleWorkers ignores gnet's pool of goroutines in which connections are
// enrolled: they wait for more for a while.
func IdleWorkers() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1")
}

// AwaitRead returns when the event loops have read what had arrived in their
// sockets before the call. A loop runs its tasks after it has read from every
// socket that was ready; the second round is for a task that was queued while
// the loop was already busy with others.
func (s *Server) AwaitRead(ctx context.Context) error {
	return errors.Join(s.onLoops(ctx, func(*loop) {}), s.onLoops(ctx, func(*loop) {}))
}

// onLoops runs f on every event loop, and returns when all of them have.
func (s *Server) onLoops(ctx context.Context, f func(*loop)) error {
	done := make(chan struct{}, len(s.loops))
	for _, lp := range s.loops {
		lp.post(func(m *mailbox) {
			m.ran = append(m.ran, func() {
				f(lp)
				done <- struct{}{}
			})
		})
	}
	for range s.loops {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
