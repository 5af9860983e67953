package load

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
)

const (
	// waitingLoops is how many event loops read those who wait. With two of them on
	// 2 processors, more of the server's writes find one asleep and have to wake it,
	// and what one gains is lost.
	waitingLoops = 1
	// waitingReadBytes is a loop's read buffer. One who waits has one winner.
	waitingReadBytes = 16 << 10
	// seatingMax is how many connections are on their way to the loops at once:
	// each has two descriptors meanwhile.
	seatingMax = 16
)

// errSeat is of a loop that can't poll a socket. It closes it and says no more.
var errSeat = errors.New("its event loop can't poll it")

// waitingRoom is where the connections of those who wait are read, by gnet's
// event loops. At the draw all their winners come at once, and what it takes to
// read them counts as the server's time: a loop reads one after the other, where
// goroutines, one for each, would have to be woken first, with their stacks out
// of the processor's caches.
//
// The loops call OnOpen, OnTraffic and OnClose. Each waiter belongs to one loop.
type waitingRoom struct {
	gnet.BuiltinEventEngine
	client  *gnet.Client // nil until the room is open
	harvest *harvest
	winners int          // of all who wait
	missing atomic.Int64 // who have not got theirs

	once  sync.Once
	ended chan struct{} // closed by end
	err   error         // why the waiting ended; nil if all have their winners
}

func newWaitingRoom() *waitingRoom { return &waitingRoom{ended: make(chan struct{})} }

// open starts the event loops and hands them the connections of those who wait
// from now on. The first error of one who waits is wait's.
func (room *waitingRoom) open(h *harvest, waiters []*waiter) error {
	client, err := gnet.NewClient(room,
		gnet.WithNumEventLoop(waitingLoops),
		gnet.WithReadBufferCap(waitingReadBytes),
		// It has nothing to tell that is not an error of a connection or of close,
		// and would say it on standard output.
		gnet.WithLogger(zap.NewNop().Sugar()),
	)
	if err == nil {
		err = client.Start()
	}
	if err != nil {
		return fmt.Errorf("load: event loops don't start: %w", err)
	}
	room.client, room.harvest = client, h
	for _, w := range waiters {
		room.winners += w.winnersDue()
	}
	room.missing.Store(int64(len(waiters)))
	return each(seatingMax, waiters, room.seat)
}

// seat hands one connection over. The loop's descriptor is a duplicate; the one
// that it was made from is closed by then.
func (room *waitingRoom) seat(w *waiter) error {
	_, err := room.client.EnrollContext(w.conn.(*trackedConn).release(), w)
	w.conn = nil
	if err == nil && !w.seated {
		err = errSeat
	}
	if err != nil {
		return fmt.Errorf("connection of waiting agency %d: %w", w.id, err)
	}
	return nil
}

// wait returns when everyone has their winners, or with the first error.
func (room *waitingRoom) wait() error {
	<-room.ended
	return room.err
}

// end ends the waiting, the first time that it is called.
func (room *waitingRoom) end(err error) {
	room.once.Do(func() {
		room.err = err
		close(room.ended)
	})
}

// close closes all connections and returns when the event loops have ended. open
// has returned by then: a loop that has ended takes no connection, and gnet would
// wait for it to do so.
func (room *waitingRoom) close() error {
	room.end(net.ErrClosed)
	if room.client == nil {
		return nil
	}
	return room.client.Stop()
}

// OnOpen is called before EnrollContext returns.
func (room *waitingRoom) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.Context().(*waiter).seated = true
	return nil, gnet.None
}

func (room *waitingRoom) OnTraffic(c gnet.Conn) gnet.Action {
	w := c.Context().(*waiter)
	in, err := c.Next(-1)
	if err != nil {
		room.end(w.lost(err))
		return gnet.Close
	}
	complete, err := w.take(in)
	if err != nil {
		room.end(err)
		return gnet.Close
	}
	if complete && room.missing.Add(-1) == 0 {
		room.harvest.came(room.winners)
		room.end(nil)
	}
	return gnet.None
}

// OnClose has no error if it is the room that closes.
func (room *waitingRoom) OnClose(c gnet.Conn, err error) gnet.Action {
	if w := c.Context().(*waiter); !w.complete {
		if err == nil {
			err = net.ErrClosed
		}
		room.end(w.lost(err))
	}
	return gnet.None
}
