package engine

import (
	"context"
	"net"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"loteria/engine/front"
	"loteria/engine/front/fronttest"
	"loteria/engine/ledger"
)

// OpenWith is Open with a ledger of other segments, or on another file system.
func OpenWith(cfg Config, log *zap.Logger, options ledger.Options) (*Server, error) {
	return openListening(cfg, log, environment{ledger: options})
}

// HTTPAddr is where those come who watch; nil if nobody can.
func (s *Server) HTTPAddr() net.Addr {
	if s.watch == nil {
		return nil
	}
	return s.watch.admin.Addr()
}

// Refused is how many connections were refused.
func (s *Server) Refused() int64 {
	return s.front.Broken(front.LimitConnections) + s.front.Broken(front.LimitSource)
}

// AwaitConnections returns when so many connections, since the start, belong to an event loop or are
// refused.
func (s *Server) AwaitConnections(ctx context.Context, n int64) error {
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for s.front.Opened()+s.Refused() < n {
		select {
		case <-looks.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// IdleWorkers ignores gnet's pool of goroutines in which connections are
// enrolled: they wait for more for a while.
func IdleWorkers() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1")
}

// LoopEnds is what happens when an event loop ends by itself.
func (s *Server) LoopEnds() { s.front.Handler().OnClose(new(fronttest.Conn), nil) }

// AwaitRead returns when the event loops have read what had arrived in their sockets before the
// call. A loop runs its tasks after it has read from every socket that was ready. The second round is
// for a task that was queued while the loop was already busy with others.
func (s *Server) AwaitRead(ctx context.Context) error {
	for range 2 {
		for through, loops := s.front.Through(); loops > 0; loops-- {
			select {
			case <-through:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// Play is an agency; see play.
var Play = play
