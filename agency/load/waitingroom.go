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
	// waitingLoops is how many event loops read the waiting agencies. Two loops on 2 processors
	// gain nothing: more of the server's writes then find a loop asleep and have to wake it.
	waitingLoops = 1
	// waitingReadBytes is a loop's read buffer. A waiting agency has only one winner.
	waitingReadBytes = 16 << 10
	// seatingMax is how many connections are handed to the loops at once. Each needs two
	// descriptors meanwhile.
	seatingMax = 16
)

// errSeat says that a loop couldn't poll a socket. The loop has closed it, and doesn't say why.
var errSeat = errors.New("its event loop can't poll it")

// waitingRoom reads the connections of the waiting agencies with gnet's event loops. At the draw
// all their winners come at once, and reading them counts as the server's time. A loop reads one
// connection after the other. Goroutines, one for each connection, would have to be woken first,
// and their stacks would not be in the processor's caches.
//
// The loops call OnOpen, OnTraffic and OnClose. Each waiter belongs to one loop.
type waitingRoom struct {
	gnet.BuiltinEventEngine
	client  *gnet.Client // nil until the room is open
	harvest *harvest
	winners int          // of all waiting agencies
	missing atomic.Int64 // agencies that have not got their winners

	once  sync.Once
	ended chan struct{} // closed by end
	err   error         // why the waiting ended; nil if all agencies have their winners
}

func newWaitingRoom() *waitingRoom { return &waitingRoom{ended: make(chan struct{})} }

// open starts the event loops and hands them the connections of the waiters. wait returns the first
// error of a waiter.
func (room *waitingRoom) open(h *harvest, waiters []*waiter) error {
	client, err := gnet.NewClient(room,
		gnet.WithNumEventLoop(waitingLoops),
		gnet.WithReadBufferCap(waitingReadBytes),
		// gnet would log to standard output, and only errors that OnClose or close get as well.
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

// seat hands one connection to a loop. The loop uses a duplicate of its descriptor; EnrollContext
// has closed the original when it returns.
func (room *waitingRoom) seat(w *waiter) error {
	c := w.conn.(*boundConn)
	c.unbind()
	socket := c.Conn
	if secured, ok := socket.(*secureConn); ok {
		w.secured, socket = secured, secured.unplug()
	}
	_, err := room.client.EnrollContext(socket, w)
	w.conn = nil
	if err == nil && !w.seated {
		err = errSeat
	}
	if err != nil {
		return fmt.Errorf("connection of waiting agency %d: %w", w.id, err)
	}
	return nil
}

// wait returns when all agencies have their winners, or with the first error.
func (room *waitingRoom) wait() error {
	<-room.ended
	return room.err
}

// end ends the waiting with err. Only the first call counts.
func (room *waitingRoom) end(err error) {
	room.once.Do(func() {
		room.err = err
		close(room.ended)
	})
}

// close closes all connections, and returns when the event loops have ended. Call it only after
// open has returned: gnet would wait for ever for an ended loop to take a connection.
func (room *waitingRoom) close() error {
	room.end(net.ErrClosed)
	if room.client == nil {
		return nil
	}
	return room.client.Stop()
}

// OnOpen marks the waiter as seated. gnet calls it before EnrollContext returns.
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
	complete, err := w.hear(in)
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

// OnClose ends the waiting if the waiter has no winners yet. err is nil if the room itself closes.
func (room *waitingRoom) OnClose(c gnet.Conn, err error) gnet.Action {
	w := c.Context().(*waiter)
	if err == nil && w.secured != nil {
		_, _ = c.Write(w.secured.lastWords()) // the server may be gone already
	}
	if !w.complete {
		if err == nil {
			err = net.ErrClosed
		}
		room.end(w.lost(err))
	}
	return gnet.None
}
